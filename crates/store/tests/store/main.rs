//! Laws of the store, tested through its public interface.

mod fixture;
mod records;
