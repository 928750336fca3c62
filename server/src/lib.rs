//! The service: stories, jobs, gRPC.
