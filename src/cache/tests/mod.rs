//! Tables for every rule of the cache, and what holds for any bytes.
