//! Kubernetes objects to the model, by pure rules that every source shares.
//!
//! `check` says what is wrong with one object by itself, `mesh` turns all objects into a view and says where they
//! contradict each other, `derive` stands in for Kubernetes' endpoint controller where there is none.

pub mod annotations;
pub mod check;
pub mod derive;
pub mod mesh;

mod conflicts;
mod owner;
mod pod;
mod policy;
mod reuse;
mod service;
mod value;

#[cfg(test)]
mod tests;
