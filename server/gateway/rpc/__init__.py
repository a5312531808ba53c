"""The Open Inference Protocol over gRPC, beside the gateway's HTTP."""
