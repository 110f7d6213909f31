//! What growers compute from readings: the drying of soil, climate formulas,
//! the sun, the calendar, and the KPIs of a zone. Pure functions and state: no
//! I/O, no clock, no configuration files.
//!
//! # Layout
//! - [`drying`]: waterings, drying rate, hours until too dry, minutes to water
//! - [`formula`]: vapour, light, degree-hours, evapotranspiration, soil water
//! - [`sun`]: sunrise, sunset, elevation, clear-sky irradiance
//! - [`calendar`]: the clock on the wall and the year as features
//! - [`kpi`]: hours and days of a zone: counts, comfort, data quality

pub mod calendar;
pub mod drying;
pub mod formula;
pub mod kpi;
pub mod sun;
