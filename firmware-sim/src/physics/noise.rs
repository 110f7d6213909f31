//! Random numbers of the physics and of sensors.

use rand::RngExt;
use rand_distr::StandardNormal;
use rand_pcg::Pcg64Mcg;

/// Draws from the normal distribution with mean 0 and standard deviation `sd`.
pub(crate) fn draw_normal(rng: &mut Pcg64Mcg, sd: f64) -> f64 {
    sd * rng.sample::<f64, _>(StandardNormal)
}

/// A slowly wandering value: the Ornstein–Uhlenbeck process, which is an AR(1) when it is sampled
/// at any fixed interval. Exact for any step (Gillespie 1996, Phys. Rev. E 54, 2084).
#[derive(Clone, Copy, Debug)]
pub(super) struct OrnsteinUhlenbeck {
    /// Long-term standard deviation.
    sd: f64,
    /// Time after which it has forgotten 63 % of its value, in seconds.
    memory_s: f64,
    /// The current value, around 0.
    pub(super) value: f64,
}

impl OrnsteinUhlenbeck {
    pub(super) fn new(sd: f64, memory_s: f64, rng: &mut Pcg64Mcg) -> Self {
        Self { sd, memory_s, value: draw_normal(rng, sd) }
    }

    pub(super) fn step(&mut self, dt_s: f64, rng: &mut Pcg64Mcg) {
        let retained = (-dt_s / self.memory_s).exp();
        self.value =
            self.value * retained + draw_normal(rng, self.sd * (1.0 - retained * retained).sqrt());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn spread_and_memory_are_as_asked() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let mut wander = OrnsteinUhlenbeck::new(2.0, 600.0, &mut rng);
        let n = 200_000;
        let (mut squares, mut products) = (0.0, 0.0);
        for _ in 0..n {
            let before = wander.value;
            wander.step(60.0, &mut rng);
            squares += wander.value * wander.value;
            products += wander.value * before;
        }
        let n = f64::from(n);
        assert!(((squares / n).sqrt() - 2.0).abs() < 0.1);
        // The correlation of neighbours is exp(-60/600).
        assert!((products / squares - (-0.1_f64).exp()).abs() < 0.02);
    }
}
