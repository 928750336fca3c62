//! Protobuf definitions of Coffer and the types made from them.
