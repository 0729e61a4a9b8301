//! The rules of the house that a program can check.

mod circles;
mod documentation;
mod files;
mod names;
mod owners;
mod phrases;
mod source;
mod tables;
