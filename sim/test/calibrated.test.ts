import { Bitfield } from '@sepia/base/bitfield';
import type { Link } from '@sepia/swarm/core/link';
import { Chance } from '@sepia/swarm/core/random';
import { SwarmCore } from '@sepia/swarm/core/swarm-core';
import t from 'tap';
import { Trackers } from '../src/control/trackers.ts';
import { CALIBRATED, calibrated, type SimulateOptions, simulate } from '../src/index.ts';
import { checkCore } from '../src/swarm/invariants.ts';
import { VirtualClock } from '../src/wire/clock.ts';
import { Machine } from '../src/wire/machine.ts';
import { Network } from '../src/wire/network.ts';
import { TraceHash } from '../src/wire/trace.ts';

const SCENE: SimulateOptions = {
  nodes: 50,
  origins: 2,
  pieces: 64,
  rateBytesPerSec: 125e6,
  originRateBytesPerSec: 125e6,
  seed: 4,
};

/** How it goes, the same for every test. */
const PLAIN = simulate(SCENE);

function start(): { clock: VirtualClock; network: Network; until: (ms: number) => void } {
  const clock = new VirtualClock();
  const network = new Network(clock, 0.5);
  const until = (ms: number): void => {
    clock.at(ms, () => undefined);
    while (clock.nowMs < ms && clock.step());
  };
  return { clock, network, until };
}

t.test('what a node receives and sends waits for its one thread', async (t) => {
  const { clock, network, until } = start();
  network.add('a', 1e6, 1e6);
  const cpu = { receiveMs: 4, sendMs: 1 };
  const busy = new Machine({ name: 'a', clock, network, blockBytes: 2 ** 17, cpu });
  const idle = new Machine({ name: 'a', clock, network, blockBytes: 2 ** 17, cpu: undefined });
  const done: string[] = [];
  busy.received(2 ** 20, () => done.push(`received ${clock.nowMs}`));
  busy.sending(2 ** 19, () => done.push(`sent ${clock.nowMs}`));
  idle.received(2 ** 20, () => done.push(`free ${clock.nowMs}`));
  until(10);
  t.strictSame(done, ['free 0', 'received 4', 'sent 4.5']);
});

t.test('calls of one tracker wait for each other; where it is dead the next one is asked', async (t) => {
  const { clock, network, until } = start();
  const stage = { clock, network, chance: new Chance(1), trace: new TraceHash(), machines: new Map() };
  const trackers = new Trackers(stage, { count: 2, callMs: 10 });
  const told: string[] = [];
  const ask = (blob: number, peerId: string): void =>
    trackers.join(blob, { peerId, addresses: [peerId], origin: false, zone: 'z' }, true, ({ peers }) => {
      const named = peers.map((peer) => peer.peerId).sort();
      told.push(`${peerId} ${clock.nowMs} ${named.join('+')}`);
    });
  ask(0, 'a');
  ask(1, 'b');
  ask(0, 'c');
  ask(2, 'd');
  until(40);
  t.strictSame(told.splice(0), ['a 11 ', 'b 11 ', 'c 21 a', 'd 31 ']);
  trackers.fail('killed');
  ask(0, 'a');
  until(80);
  t.strictSame(told.splice(0), ['a 52 '], 'the next one knows nobody of that blob yet');
  ask(0, 'c');
  until(120);
  t.strictSame(told, ['c 92 a']);
});

t.test(
  'with the costs of the bench all finish, later; a slow line is the last; equal seeds are equal runs',
  async (t) => {
    const costly = simulate(calibrated(SCENE, 1));
    t.equal(costly.finishedMs.size, 50);
    t.ok(costly.lastMs > PLAIN.lastMs, `${costly.lastMs} ms after ${PLAIN.lastMs}`);
    t.ok(costly.originCopies <= 6, `origins gave ${costly.originCopies} copies`);
    const slow = simulate({ ...SCENE, slow: { share: 2 * CALIBRATED.slow.share, rate: 0.3 } });
    const slowest = [...slow.finishedMs].sort((a, b) => b[1] - a[1])[0]![0];
    t.equal(slowest, 'a0', 'one of 50');
    t.equal(simulate(calibrated(SCENE, 1)).traceHash, costly.traceHash);
  },
);

t.test('a tracker that takes long for a call holds everybody up', async (t) => {
  const trackers = { count: 1, callMs: 20 };
  const held = simulate({ ...SCENE, trackers });
  t.equal(held.finishedMs.size, 50);
  t.ok(held.lastMs >= 50 * 20, `the last was told after 1 s, and had all after ${held.lastMs} ms`);
});

t.test('several blobs share the lines; who has all of all is done', async (t) => {
  const two = simulate({ ...SCENE, pieces: [40, 24] });
  t.equal(two.finishedMs.size, 50);
  const limitMs = (64 * 2 ** 20 * 1000) / 125e6;
  t.ok(two.lastMs >= limitMs, 'no faster than the line');
  t.ok(two.lastMs <= 2 * PLAIN.lastMs, `${two.lastMs} ms, one blob ${PLAIN.lastMs} ms`);
  const shared = simulate({ ...SCENE, pieces: [40, 24], trackers: { count: 1, callMs: 40 } });
  const apart = simulate({ ...SCENE, pieces: [40, 24], trackers: { count: 2, callMs: 40 } });
  t.ok(apart.lastMs < shared.lastMs, `two trackers ${apart.lastMs} ms, one ${shared.lastMs} ms`);
});

t.test('a run says how far it is, and a member that dies in one blob is not waited for', async (t) => {
  const words: number[] = [];
  const fault = { kind: 'kill', node: 'a3', atMs: 200 } as const;
  const options = { ...SCENE, nodes: 120, pieces: [64, 64], faults: [fault] };
  const result = simulate(options, ({ pieces }) => words.push(pieces));
  t.equal(result.finishedMs.size, 119);
  t.ok(words.length >= 1, `${words.length} words`);
  t.ok(words.every((pieces, at) => pieces > 0 && pieces <= 120 * 128 && pieces >= (words[at - 1] ?? 0)));
});

t.test(
  'whatever goes wrong, all who live have all, and each core holds what must hold after each event',
  async (t) => {
    const half = Array.from({ length: 20 }, (_, at) => `a${at}`);
    const faults = [
      { kind: 'tracker', atMs: 100 },
      { kind: 'loss', share: 0.02, atMs: 0 },
      { kind: 'partition', nodes: half, atMs: 150, untilMs: 4_000 },
      { kind: 'kill', node: 'a30', atMs: 300 },
      { kind: 'corrupt', node: 'a31', atMs: 200 },
      { kind: 'stop', node: 'o1', atMs: 400 },
    ] as const;
    const trackers = { count: 2, callMs: 1 };
    for (const landEveryMs of [0, 20])
      for (let seed = 1; seed <= 2; seed++) {
        const run = { ...SCENE, nodes: 40, faults, trackers, landEveryMs, seed, checked: true };
        const result = simulate({ ...run, fullOrigins: [1], untilMs: 60_000 });
        t.equal(result.finishedMs.size, 39, `seed ${seed}, a piece every ${landEveryMs} ms`);
        t.ok(result.lastMs >= 4_000, 'the cut held some up');
        t.equal(simulate({ ...run, fullOrigins: [1], untilMs: 60_000 }).traceHash, result.traceHash);
      }
  },
);

t.test(
  'a part that is cut off from the origins gets on with what it has between it, and ends after the cut',
  async (t) => {
    const cut = Array.from({ length: 25 }, (_, at) => `a${at}`);
    const faults = [{ kind: 'partition', nodes: cut, atMs: 120, untilMs: 8_000 }] as const;
    const result = simulate({ ...SCENE, faults, checked: true, untilMs: 60_000 });
    t.equal(result.finishedMs.size, 50);
    const others = [...result.finishedMs].filter(([name]) => !cut.includes(name));
    t.ok(
      others.every(([, atMs]) => atMs < 8_000),
      'those with the origins do not wait for the cut',
    );
  },
);

t.test('the check of a core finds what must not be', async (t) => {
  const broken = (spoil: (core: SwarmCore, link: Link) => void): (() => void) => {
    const core = new SwarmCore({
      ...{ peerId: 'me', zone: 'z', pieceCount: 8, have: new Bitfield(8), knows: () => true },
      ...{ leech: true, origin: false, seed: 1, nowMs: 0 },
    });
    const wire = { peerId: 'p', origin: false, zone: 'z', dialled: true } as const;
    core.handle({ type: 'wireUp', link: core.drawLink(), ...wire }, 0, () => undefined);
    core.handle({ type: 'haves', link: 0, indexes: [3] }, 0, () => undefined);
    spoil(core, core.links.get(0)!);
    return () => checkCore('me', core);
  };
  t.doesNotThrow(broken(() => undefined));
  t.throws(
    broken((_, link) => link.begin(4, 0)),
    { message: /piece 4 asked of p, who has it not/ },
  );
  t.throws(
    broken((core) => core.have.add(3)),
    { message: /piece 3 is here and asked of p/ },
  );
  t.throws(
    broken((core, link) => core.links.noteNews(Object.assign(Object.create(link), { id: 9 }))),
    {
      message: /that is no more/,
    },
  );
});
