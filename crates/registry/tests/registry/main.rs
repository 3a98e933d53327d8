//! The client against scripted servers, and client and server against other programs. All on
//! loopback.

mod scripted;

mod fixture;

mod authentication;
mod certificates;
mod failures;
mod programs;
mod pulls;
mod pushes;
mod round_trips;
mod serving;
mod settings;
mod storms;
