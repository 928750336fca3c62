//! The node agent: runs the pods of one node as confined processes or as OCI
//! containers, and reports what became of them.
