//! The client against scripted servers, and client and server against other programs. All on
//! loopback.

mod scripted;

mod fixture;

mod brittle;

mod authentication;
mod certificates;
mod failures;
mod programs;
mod pulls;
mod pushes;
mod resuming;
mod round_trips;
mod serving;
mod sessions;
mod settings;
mod storms;
