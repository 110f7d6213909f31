//! Agronomic computations on readings: the drying of soil, climate formulas, the sun, the calendar,
//! and the KPIs of a zone. Pure functions and state: no I/O, no clock, no configuration files.
//!
//! # Layout
//! - [`drying`]: waterings, drying rate, hours until the soil is too dry, minutes to water
//! - [`formula`]: vapour, light, degree-hours, evapotranspiration, soil water
//! - [`sun`]: sunrise, sunset, elevation, clear-sky irradiance
//! - [`calendar`]: local time of day, week and year as features
//! - [`kpi`]: KPIs of a zone by hour and day: counts, comfort, data quality

pub mod calendar;
pub mod drying;
pub mod formula;
pub mod kpi;
pub mod sun;
