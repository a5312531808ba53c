"""Plain Triton as its tutorials show it: an ensemble of a tokenizer, an ONNX member padded to 128, and the labels."""
