//! Stories, vectors, independent checkers and the rules of the architecture.
