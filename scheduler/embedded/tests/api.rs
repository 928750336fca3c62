//! The API through `kube::Client` in process, as the controllers use it.

#[path = "api/fixture.rs"]
mod fixture;
#[path = "api/objects.rs"]
mod objects;
