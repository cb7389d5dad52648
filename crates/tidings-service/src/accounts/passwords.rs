//! Password hashing: argon2id on threads of its own, a few at a time, with a bounded number of callers waiting. One
//! hash takes tens of milliseconds of a core and megabytes of memory, so without the bounds a flood of sign-ins would
//! take the machine.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tidings_ports::{Rng, Tasks};
use tidings_types::{Code, Refusal};
use tokio::sync::{Semaphore, oneshot};

use crate::error::overloaded;

/// What one hash costs. The defaults are OWASP's smallest recommendation for argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingCost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Default for HashingCost {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

pub(super) struct Passwords {
    argon2: Argon2<'static>,
    /// Verified when there is no account, so that "unknown name" takes as long as "wrong password".
    nobody: String,
    rng: Arc<dyn Rng>,
    tasks: Arc<dyn Tasks>,
    /// Callers under way: running or waiting.
    queue: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Passwords {
    /// # Errors
    /// When the cost is outside of what argon2 defines.
    pub(super) fn new(
        cost: HashingCost,
        parallel_max: usize,
        waiting_max: usize,
        rng: Arc<dyn Rng>,
        tasks: Arc<dyn Tasks>,
    ) -> Result<Self, argon2::Error> {
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None)?;
        Ok(Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            nobody: hash_of_nobody(cost, &*rng),
            rng,
            tasks,
            queue: Arc::new(Semaphore::new(parallel_max + waiting_max)),
            running: Arc::new(Semaphore::new(parallel_max)),
        })
    }

    /// The PHC string to store.
    pub(super) async fn hash(&self, password: &str) -> Result<String, Refusal> {
        let (argon2, password) = (self.argon2.clone(), password.to_owned());
        let mut salt = [0; 16];
        self.rng.fill(&mut salt);
        let hash =
            move || argon2.hash_password_with_salt(password.as_bytes(), &salt).map(|hash| hash.to_string());
        self.run(hash).await?.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "password hashing");
            Refusal::new(Code::Internal, "the password could not be hashed")
        })
    }

    /// Is it the password of this hash? Without a hash: no, after as much work.
    pub(super) async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, Refusal> {
        let (argon2, password) = (self.argon2.clone(), password.to_owned());
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        self.run(move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let place = self
            .queue
            .clone()
            .try_acquire_owned()
            .map_err(|_| overloaded("too many people are signing in; try again in a moment"))?;
        let turn = self.running.clone().acquire_owned().await.expect("nobody closes it");
        let (sender, result) = oneshot::channel();
        // The work has the permits: a caller that gives up does not make room for more work than runs.
        self.tasks.spawn_blocking(Box::new(move || {
            let result = work();
            drop((turn, place));
            // A caller that gave up does not want to know.
            let _ = sender.send(result);
        }));
        result.await.map_err(|_| Refusal::new(Code::Internal, "the password could not be hashed"))
    }

    /// Holds every permit until the answer is dropped.
    #[cfg(test)]
    pub(super) fn occupy(&self) -> impl Drop + use<> {
        let permits = u32::try_from(self.queue.available_permits()).unwrap();
        self.queue.clone().try_acquire_many_owned(permits).unwrap()
    }
}

/// A hash that no password has (but with a chance of 2^-256), with the cost of a real one.
fn hash_of_nobody(cost: HashingCost, rng: &dyn Rng) -> String {
    let (mut salt, mut hash) = ([0; 16], [0; 32]);
    rng.fill(&mut salt);
    rng.fill(&mut hash);
    let HashingCost { memory_kib, passes, lanes } = cost;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tidings_ports::BoxFuture;
    use tidings_ports::memory::SeededRng;
    use tokio::task::{JoinSet, yield_now};

    use super::*;

    const CHEAP: HashingCost = HashingCost { memory_kib: 8, passes: 1, lanes: 1 };

    /// Threads that do nothing until the test does their work.
    #[derive(Default)]
    struct HeldWork(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

    impl HeldWork {
        /// Does what was handed over, and answers how much it was.
        fn run(&self) -> usize {
            let held = std::mem::take(&mut *self.0.lock().unwrap());
            held.into_iter().map(|work| work()).count()
        }
    }

    impl Tasks for HeldWork {
        fn spawn(&self, _task: BoxFuture<'static, ()>) {
            panic!("hashing spawns no tasks")
        }

        fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
            self.0.lock().unwrap().push(work);
        }
    }

    fn passwords(parallel_max: usize, waiting_max: usize) -> (Arc<Passwords>, Arc<HeldWork>) {
        let threads = Arc::new(HeldWork::default());
        let rng = Arc::new(SeededRng::new(1));
        let passwords = Passwords::new(CHEAP, parallel_max, waiting_max, rng, threads.clone()).unwrap();
        (Arc::new(passwords), threads)
    }

    #[tokio::test]
    async fn a_few_are_hashed_at_a_time_a_few_wait_and_the_rest_are_turned_away() {
        let (passwords, threads) = passwords(2, 3);
        let mut callers = JoinSet::new();
        for _ in 0..9 {
            let passwords = passwords.clone();
            callers.spawn(async move { passwords.verify("a password", None).await.map_err(|no| no.code) });
        }
        let mut batches = Vec::new();
        while !callers.is_empty() {
            // Everybody gets as far as they can before the next work is done.
            yield_now().await;
            batches.push(threads.run());
            while let Some(answer) = callers.try_join_next() {
                let answer = answer.unwrap();
                assert!(matches!(answer, Ok(false) | Err(Code::Overloaded)), "{answer:?}");
            }
        }
        batches.retain(|work| *work > 0);
        assert_eq!(batches, [2, 2, 1], "five of nine, never more than two at a time");
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_makes_no_room_before_its_work_is_done() {
        let (passwords, threads) = passwords(1, 0);
        let caller = tokio::spawn({
            let passwords = passwords.clone();
            async move { passwords.hash("a password").await }
        });
        yield_now().await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        let refusal = passwords.hash("another password").await.unwrap_err();
        assert_eq!(refusal.code, Code::Overloaded);
        assert_eq!(threads.run(), 1);
        let (hashed, _) = tokio::join!(passwords.hash("another password"), async {
            yield_now().await;
            threads.run()
        });
        assert!(hashed.unwrap().starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
    }

    #[test]
    fn the_hash_of_nobody_is_as_dear_as_a_real_one() {
        let cost = HashingCost { memory_kib: 32, passes: 3, lanes: 2 };
        let text = hash_of_nobody(cost, &SeededRng::new(1));
        let nobody = PasswordHash::new(&text).unwrap();
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let real = argon2.hash_password_with_salt(b"a password", &[1; 16]).unwrap();
        assert_eq!((nobody.algorithm, nobody.version), (real.algorithm, real.version));
        assert_eq!(nobody.params, real.params);
        let sizes = |hash: &PasswordHash| (hash.salt.map(|s| s.len()), hash.hash.map(|h| h.len()));
        assert_eq!(sizes(&nobody), sizes(&real));
    }
}
