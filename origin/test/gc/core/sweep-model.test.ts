import type { Digest } from '@sepia/base/digest';
import { SEED, seeded } from '@sepia/test-support/seeded';
import t from 'tap';
import { FENCE_MS } from '../../../src/deadlines/members.ts';
import type { Process } from './scheduler.ts';
import { REPOSITORIES, World } from './world.ts';

const EPISODES = 20;
const OPERATIONS = 500;
const AT_ONCE = 12;
const TAGS = ['v1', 'v2', 'latest'];

function named(kind: string, index: number): Digest {
  return `sha256:${kind}${index}` as Digest;
}

const BLOBS = Array.from({ length: 40 }, (_, index) => named('blob', index));
const IMAGES = Array.from({ length: 16 }, (_, index) => named('image', index));
const PARTS = Array.from({ length: 8 }, (_, index) => named('part', index));
const INDEXES = Array.from({ length: 6 }, (_, index) => named('index', index));
const SIGNATURES = Array.from({ length: 8 }, (_, index) => named('signature', index));

function worldOf(chance: () => number, hasBackend: boolean): World {
  const world = new World(chance);
  world.hasBackend = hasBackend;
  for (const one of [...IMAGES, ...PARTS, ...SIGNATURES])
    world.children.set(one, [...new Set([world.pick(BLOBS), world.pick(BLOBS), world.pick(BLOBS)])]);
  for (const one of INDEXES) world.children.set(one, [...new Set([world.pick(PARTS), world.pick(PARTS)])]);
  for (const one of SIGNATURES) world.subjects.set(one, world.pick([...IMAGES, ...INDEXES]));
  return world;
}

/** What is referenced or young and is not there; computed from the tags and the acknowledgements alone. */
function lost(world: World): string[] {
  const faults: string[] = [];
  for (const [key, { digest }] of world.tags) {
    const [repository = ''] = key.split(' ');
    for (const one of digest === undefined ? [] : world.closure(digest)) {
      if (!world.isLinked(repository, one)) faults.push(`${key} leads to ${one}, which is not linked`);
      if (world.copies(one) < 2) faults.push(`${key} leads to ${one}, of which a copy is gone`);
    }
  }
  for (const [key, atMs] of world.acknowledged) {
    const [kind, repository = '', digest = ''] = key.split(' ');
    if (kind !== 'link' || world.nowMs - atMs >= world.graceMs) continue;
    if (!world.isLinked(repository, digest as Digest)) faults.push(`${key} is young and gone`);
    if (world.copies(digest as Digest) < 2) faults.push(`a copy of ${key} is young and gone`);
  }
  return faults;
}

/** What should have gone and is still there, once all is older than the grace. */
function garbage(world: World): string[] {
  const faults: string[] = [];
  const linked = new Set<Digest>();
  for (const repository of REPOSITORIES) {
    const live = new Set<Digest>();
    for (const [key, { digest, history }] of world.tags)
      if (key.startsWith(`${repository} `) && digest !== undefined)
        for (const one of history.flatMap((root) =>
          world.isLinked(repository, root) ? world.closure(root) : [],
        ))
          live.add(one);
    for (const [signature, subject] of world.subjects)
      if (live.has(subject)) for (const one of world.closure(signature)) live.add(one);
    for (const digest of [...world.children.keys(), ...BLOBS]) {
      if (!world.isLinked(repository, digest)) continue;
      linked.add(digest);
      if (!live.has(digest)) faults.push(`link ${repository} ${digest}`);
    }
  }
  for (const { bytes } of world.members)
    for (const digest of bytes.keys()) if (!linked.has(digest)) faults.push(`bytes ${digest}`);
  for (const digest of world.backend.keys()) if (!linked.has(digest)) faults.push(`backend ${digest}`);
  return faults;
}

/** One thing that a client does, or nothing where another client does something to the same manifest. */
function operation(world: World, chance: () => number, taken: Set<string>): Process | undefined {
  const repository = world.pick(REPOSITORIES);
  const tag = world.pick(TAGS);
  const digest = world.pick([...IMAGES, ...INDEXES, ...SIGNATURES]);
  const what = chance();
  if (what < 0.1) {
    world.deleteTag(repository, tag);
    return undefined;
  }
  const keys = world.closure(digest).map((one) => `${repository} ${one}`);
  if (keys.some((key) => taken.has(key))) return undefined;
  const act =
    what < 0.25
      ? world.deleteManifest(repository, digest)
      : what < 0.4
        ? world.setTag(repository, tag, digest)
        : world.pushImage(repository, what < 0.85 ? tag : undefined, digest);
  // Two clients that delete and push one manifest at once settle that between them, with or without a sweep.
  const manifests = keys.filter((_, index) => world.children.has(world.closure(digest)[index]!));
  for (const key of manifests) taken.add(key);
  return (function* () {
    yield* act;
    for (const key of manifests) taken.delete(key);
  })();
}

for (const hasBackend of [false, true])
  t.test(
    `10,000 pushes, mounts, tag moves and deletes between sweeps that are killed; backend: ${hasBackend}`,
    async (t) => {
      const chance = seeded(SEED);
      const world = worldOf(chance, hasBackend);
      for (let episode = 0; episode < EPISODES; episode++) {
        // Without a grace a push loses layers before its manifest comes, and says so; what was acknowledged stays all the same.
        world.graceMs = episode % 3 === 2 ? 0 : 3_600_000;
        world.acknowledged.clear();
        const taken = new Set<string>();
        let sweep: Process | undefined;
        for (let done = 0; done < OPERATIONS; done++) {
          const process = operation(world, chance, taken);
          if (process !== undefined) world.running.push(process);
          if (sweep === undefined || !world.isRunning(sweep)) {
            sweep = world.sweep({ atOnce: chance() < 0.5 ? AT_ONCE : 1_000 });
            world.running.push(sweep);
          } else if (chance() < 0.005) world.kill(sweep); // kill -9 of the coordinator
          for (let steps = Math.floor(chance() * 60); steps > 0; steps--) world.step();
          if (chance() < 0.02) world.nowMs += Math.floor(chance() * 3_600_000);
          const faults = done % 4 === 0 ? lost(world) : [];
          if (faults.length > 0)
            throw new Error(`seed ${SEED}, episode ${episode}, ${done}: ${faults.join('; ')}`);
        }
        world.settle();
        t.same(lost(world), [], `episode ${episode}: nothing referenced is gone`);
        world.nowMs += world.graceMs + FENCE_MS;
        world.running.push(world.sweep({ atOnce: 1_000 }));
        world.settle();
        t.same(garbage(world), [], `episode ${episode}: nothing unreferenced outlives the grace and a sweep`);
        t.same(lost(world), []);
      }
      t.comment(JSON.stringify(world.counts));
      const { withdrawn, evicted, ...always } = world.counts;
      for (const [what, count] of Object.entries(hasBackend ? world.counts : always))
        t.ok(count > 0, `${what} happened: ${count}`);
      if (!hasBackend) t.same([withdrawn, evicted], [0, 0]);
    },
  );
