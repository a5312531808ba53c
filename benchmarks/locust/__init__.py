"""Load tests with Locust: REST through the gateway and gRPC to Triton, in the same profiles, every answer checked."""
