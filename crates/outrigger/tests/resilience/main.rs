//! The pod that calls a failing neighbour stays up, and its owner sees why: scenes with the built binary, backends that fail
//! and recover, clients that never stop asking, and what metrics and log tell meanwhile.

mod circuits;
mod connections;
mod grpc;
mod outliers;
mod scene;
