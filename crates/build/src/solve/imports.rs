//! Steps that other builds made: found by key, fetched when they are needed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use oci::{ChainId, DiffId, Digest};

use crate::progress::Progress;
use crate::step_cache::{CachedStep, StepCache};
use crate::{BuildContext, BuildOptions, CacheUse, ImportedCache, SolveError};

/// The caches that a build imports.
///
/// While the cache is looked through first, a step is found without its layer. When it is known
/// which layers are needed, they are fetched together. A layer that cannot be had is lost: its
/// steps are not found again, and the look begins anew. From then on a step is found only with
/// its layer.
#[derive(Default)]
pub(crate) struct Imports<'a> {
    caches: Vec<Imported<'a>>,
    lost: Mutex<HashSet<DiffId>>,
    /// Whether layers come with the steps.
    is_eager: AtomicBool,
}

struct Imported<'a> {
    cache: &'a dyn ImportedCache,
    content: StepCache,
    /// The layers of its steps.
    layers: HashSet<DiffId>,
    /// Those that can be fetched.
    available: HashSet<DiffId>,
}

impl<'a> Imports<'a> {
    /// Reads the caches, all at the same time. One that cannot be read is told of and left.
    pub(crate) fn load(
        context: &BuildContext<'a>,
        options: &BuildOptions,
        progress: &Progress<'_>,
    ) -> Self {
        if options.cache == CacheUse::Ignore || context.caches.is_empty() {
            return Self::default();
        }
        let load = |cache: &&'a dyn ImportedCache| {
            let cache = *cache;
            let step = progress.start(&format!("importing cache manifest from {}", cache.name()));
            match cache.load() {
                Ok(content) => {
                    step.done();
                    let available = content.available();
                    Some(Imported {
                        cache,
                        layers: content.steps.values().map(|step| step.layer).collect(),
                        content,
                        available,
                    })
                }
                Err(error) => {
                    step.failed(error.to_string());
                    None
                }
            }
        };
        let caches = thread::scope(|scope| {
            let loads = context
                .caches
                .iter()
                .map(|cache| scope.spawn(|| load(cache)));
            // All start before the first is waited for.
            let loads: Vec<_> = loads.collect();
            let ended = loads.into_iter().map(|load| {
                let loaded = load.join();
                loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.flatten().collect()
        });
        Self {
            caches,
            ..Self::default()
        }
    }

    /// Returns what a step made that ran on `parent`, if its layer can still be had or, before
    /// layers are fetched, may not be needed.
    pub(crate) fn find(&self, key: &Digest, parent: Option<&[DiffId]>) -> Option<CachedStep> {
        let lost = self.lost();
        let found = self.caches.iter().filter_map(|imported| {
            let step = imported.content.steps.get(key)?;
            let fits = parent.is_none_or(|parent| step.parent_chain == ChainId::of(parent));
            (fits && !lost.contains(&step.layer)).then_some((imported, step))
        });
        // One that has the layer goes before one that only knows of it.
        let best = found.max_by_key(|(imported, step)| imported.available.contains(&step.layer));
        best.map(|(_, step)| step.clone())
    }

    /// Tells whether layers must come with steps that are found.
    pub(crate) fn is_eager(&self) -> bool {
        self.is_eager.load(Ordering::Relaxed)
    }

    /// Has layers come with the steps that are found from now on.
    pub(crate) fn become_eager(&self) {
        self.is_eager.store(true, Ordering::Relaxed);
    }

    /// Brings those of `layers` into the store that it lacks. Returns false when not all could be
    /// had; those are lost from then on.
    pub(crate) fn fetch(
        &self,
        store: &store::Store,
        progress: &Progress<'_>,
        layers: &[DiffId],
    ) -> Result<bool, SolveError> {
        if self.caches.is_empty() {
            return Ok(true);
        }
        let mut missing = missing(store, &self.imported(layers))?;
        for imported in &self.caches {
            let wanted = missing.iter().filter(|it| imported.available.contains(it));
            let wanted: Vec<DiffId> = wanted.copied().collect();
            if wanted.is_empty() {
                continue;
            }
            let name = imported.cache.name();
            let step = progress.start(&format!("fetching cached layers from {name}"));
            for layer in &wanted {
                step.status(layer.to_string(), step.elapsed());
            }
            match imported.cache.fetch(&wanted) {
                Ok(()) => step.done(),
                Err(error) => step.failed(error.to_string()),
            }
            missing = self::missing(store, &missing)?;
        }
        let has_all = missing.is_empty();
        self.lost().extend(missing);
        Ok(has_all)
    }

    /// Returns those of `layers` that came from a cache and are not lost. What else the store may
    /// lack is not ours to fetch.
    fn imported(&self, layers: &[DiffId]) -> Vec<DiffId> {
        let lost = self.lost();
        let is_imported = |layer: &&DiffId| {
            let mut caches = self.caches.iter();
            caches.any(|imported| imported.layers.contains(layer)) && !lost.contains(layer)
        };
        layers.iter().filter(is_imported).copied().collect()
    }

    fn lost(&self) -> MutexGuard<'_, HashSet<DiffId>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the layers that the store lacks, each once.
fn missing(store: &store::Store, layers: &[DiffId]) -> Result<Vec<DiffId>, SolveError> {
    let mut missing = Vec::new();
    for layer in layers {
        if !missing.contains(layer) && !store.has_layer(layer)? {
            missing.push(*layer);
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BaseImageError;
    use crate::step_cache::CachedLayer;

    struct Nothing;

    impl ImportedCache for Nothing {
        fn name(&self) -> String {
            String::new()
        }

        fn load(&self) -> Result<StepCache, BaseImageError> {
            Ok(StepCache::default())
        }

        fn fetch(&self, _layers: &[DiffId]) -> Result<(), BaseImageError> {
            Ok(())
        }
    }

    fn layer(name: &str) -> DiffId {
        DiffId(Digest::of(name.as_bytes()))
    }

    /// A cache that knows one step under `key`, and perhaps has its layer.
    fn cache(result: &str, has_layer: bool) -> Imported<'static> {
        let step = CachedStep {
            layer: layer(result),
            parent_chain: ChainId::of(&[layer("below")]),
            epoch: 0,
            seconds: 0.0,
            made: None,
        };
        let blob = oci::Descriptor::of(oci::MediaType::OCI_LAYER_GZIP, b"blob");
        let layers = has_layer.then_some(CachedLayer {
            diff_id: layer(result),
            blob,
            parent: None,
        });
        let content = StepCache {
            steps: [(Digest::of(b"key"), step)].into(),
            layers: layers.into_iter().collect(),
        };
        Imported {
            cache: &Nothing,
            layers: content.steps.values().map(|step| step.layer).collect(),
            available: content.available(),
            content,
        }
    }

    #[test]
    fn a_step_is_found_on_what_it_ran_on() {
        let imports = Imports {
            caches: vec![cache("a", false), cache("b", true)],
            ..Imports::default()
        };
        let find = |parent: Option<&[DiffId]>| {
            let found = imports.find(&Digest::of(b"key"), parent);
            found.map(|step| step.layer)
        };
        // The one that has its layer goes first.
        assert_eq!(find(Some(&[layer("below")])), Some(layer("b")));
        assert_eq!(find(None), Some(layer("b")));
        assert_eq!(find(Some(&[layer("other")])), None);
        assert_eq!(find(Some(&[])), None);
        imports.lost().insert(layer("b"));
        assert_eq!(find(None), Some(layer("a")));
        assert_eq!(imports.find(&Digest::of(b"other"), None), None);
    }
}
