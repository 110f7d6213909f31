//! Checks that no formula returns an infinity or NaN, whatever its arguments.

use jiff::tz::TimeZone;
use microclimate_agronomy::{
    calendar::CalendarFeatures,
    drying::DryingSettings,
    formula::{
        air, degrees,
        evapotranspiration::{self, DailyClimate, HourlyClimate},
        light, radiation,
        soil::{self, IrrigationBed},
    },
    sun::{self, GeoLocation},
};
use proptest::prelude::*;

/// Any float, with plausible ones often enough to pass the range checks.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(0.0),
        -1e-300..1e-300_f64,
        0.0..1.0_f64,
        -60.0..110.0_f64,
        0.0..1e5_f64
    ]
}

fn all_finite(answers: &[Option<f64>]) -> Result<(), TestCaseError> {
    for (i, answer) in answers.iter().enumerate() {
        prop_assert!(answer.is_none_or(f64::is_finite), "answer {i} is {answer:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn of_air_light_and_degrees([a, b, c, d] in [number(), number(), number(), number()]) {
        all_finite(&[
            air::saturation_kpa(a),
            air::saturation_slope_kpa_c(a),
            air::vapour_kpa(a, b),
            air::deficit_kpa(a, b),
            air::dew_point_c(a, b),
            air::absolute_humidity_g_m3(a, b),
            air::wet_bulb_c(a, b),
            air::heat_index_c(a, b),
            light::ppfd_umol_m2_s(a, b),
            light::integral_mol_m2(a, b),
            light::supplement_h(a, b, c),
            degrees::heating_degree_hours(a, b, c),
            degrees::cooling_degree_hours(a, b, c),
            degrees::growing_degree_days(a, b, c, Some(d), degrees::DegreeDayClamp::Mean),
            degrees::growing_degree_days(a, b, c, None, degrees::DegreeDayClamp::Extremes),
        ])?;
        let bed = IrrigationBed { root_depth_m: a.abs(), area_m2: b.abs(), flow_l_h: c.abs(), efficiency: d };
        all_finite(&[soil::depth_mm(a, b), soil::irrigation_min(c, d, &bed)])?;
    }

    #[test]
    fn of_radiation_and_evapotranspiration(
        [a, b, c, d, e, f] in [number(), number(), number(), number(), number(), number()],
        day_of_year in 0..400_u16,
    ) {
        all_finite(&[
            radiation::extraterrestrial_daily(a, day_of_year),
            radiation::extraterrestrial_hourly([a, b], day_of_year, c),
            radiation::daylight_h(a, day_of_year),
            radiation::solar_from_sunshine(a, b, c),
            radiation::clear_sky(a, b),
            radiation::net_longwave_daily([a, b], c, d),
            evapotranspiration::pressure_kpa(a),
            evapotranspiration::wind_2m(a, b),
            evapotranspiration::hargreaves_mm(a, b, c),
            evapotranspiration::daily_mm(&DailyClimate {
                extremes_c: [a, b],
                vapour_kpa: c,
                wind_m_s: d,
                solar_mj: e,
                soil_heat_mj: 0.0,
                latitude_deg: f,
                altitude_m: 10.0,
                day_of_year,
            }),
            evapotranspiration::hourly_mm(&HourlyClimate {
                temperature_c: a,
                humidity_pct: b,
                wind_m_s: c,
                solar_mj: d,
                night_clear_share: 0.5,
                place_deg: [e, f],
                altitude_m: 10.0,
                day_of_year,
                middle_utc_h: 12.0,
            }),
        ])?;
    }

    #[test]
    fn of_the_sun_and_the_calendar(
        at_ms in prop_oneof![any::<i64>(), -4_000_000_000_000..8_000_000_000_000_i64],
        latitude in -90.0..=90.0_f64,
        longitude in -180.0..=180.0_f64,
    ) {
        let place = GeoLocation::new(latitude, longitude).unwrap();
        let sun::SunPosition { elevation_deg, azimuth_deg, .. } = sun::sun_position(at_ms, place);
        prop_assert!((-90.1..=90.1).contains(&elevation_deg), "{elevation_deg}");
        prop_assert!((0.0..=360.0).contains(&azimuth_deg), "{azimuth_deg}");
        let day = sun::solar_day_near(at_ms, place);
        prop_assert!((0.0..=24.1).contains(&day.length_h()), "{day:?}");
        if let sun::DaylightSpan::Between { sunrise_ms, sunset_ms } = day.daylight {
            prop_assert!(sunrise_ms <= day.noon_ms && day.noon_ms <= sunset_ms, "{day:?}");
        }
        let irradiance = [sun::clear_sky_w_m2(at_ms, place), sun::extraterrestrial_w_m2(at_ms, place)];
        all_finite(&irradiance.map(Some))?;
        if let Some(calendar) = CalendarFeatures::at_time(at_ms, &TimeZone::UTC, Some(place)) {
            all_finite(&calendar.feature_values())?;
        }
    }
}

/// The default settings pass their own check.
#[test]
fn defaults_are_valid() {
    assert!(DryingSettings::default().into_checked().is_ok());
    assert!(microclimate_agronomy::kpi::KpiRules::default().into_checked().is_ok());
}
