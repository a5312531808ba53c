"""The front door: REST, files, WebSocket and the Open Inference Protocol over one data plane, with authentication."""
