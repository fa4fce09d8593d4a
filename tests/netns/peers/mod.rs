//! Who is at the other end: identities and their certificates, and peers of another make.

mod identity;
mod ztunnel;
