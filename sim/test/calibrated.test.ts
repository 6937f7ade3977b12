import { Chance } from '@sepia/swarm/core/random';
import t from 'tap';
import { VirtualClock } from '../src/clock.ts';
import { CALIBRATED, calibrated, type SimulateOptions, simulate } from '../src/index.ts';
import { Machine } from '../src/machine.ts';
import { Network } from '../src/network.ts';
import { SwarmTracker, TrackerTurn } from '../src/trackers.ts';

const SCENE: SimulateOptions = {
  nodes: 50,
  origins: 2,
  pieces: 64,
  rateBytesPerSec: 125e6,
  originRateBytesPerSec: 125e6,
  seed: 4,
};

function start(): { clock: VirtualClock; network: Network; until: (ms: number) => void } {
  const clock = new VirtualClock();
  const network = new Network(clock, 0.5);
  const until = (ms: number): void => {
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

t.test('calls of one tracker wait for each other, whatever blob they are about', async (t) => {
  const { clock, network, until } = start();
  const turn = new TrackerTurn(clock, network, 10);
  const chance = new Chance(1);
  const origin = { peerId: 'o', addresses: ['o'], origin: true, zone: 'z' };
  const swarms = [1, 2].map(() => new SwarmTracker(turn, [origin], chance));
  const told: string[] = [];
  const ask = (swarm: number, peerId: string): void =>
    swarms[swarm]!.ask({ peerId, addresses: [peerId], origin: false, zone: 'z' }, (peers) =>
      told.push(`${peerId} ${clock.nowMs} ${peers.map((peer) => peer.peerId).join('+')}`),
    );
  ask(0, 'a');
  ask(1, 'b');
  ask(0, 'c');
  until(40);
  t.strictSame(told, ['a 11 o', 'b 21 o', 'c 31 o+a']);
});

t.test(
  'with the costs of the bench all finish, later; a slow line is the last; equal seeds are equal runs',
  async (t) => {
    const policy = simulate(SCENE);
    const costly = simulate(calibrated(SCENE, 1));
    t.equal(costly.finishedMs.size, 50);
    t.ok(costly.lastMs > policy.lastMs, `${costly.lastMs} ms after ${policy.lastMs}`);
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
  const one = simulate(SCENE);
  const two = simulate({ ...SCENE, pieces: [40, 24] });
  t.equal(two.finishedMs.size, 50);
  const limitMs = (64 * 2 ** 20 * 1000) / 125e6;
  t.ok(two.lastMs >= limitMs, 'no faster than the line');
  t.ok(two.lastMs <= 2 * one.lastMs, `${two.lastMs} ms, one blob ${one.lastMs} ms`);
  const shared = simulate({ ...SCENE, pieces: [40, 24], trackers: { count: 1, callMs: 40 } });
  const apart = simulate({ ...SCENE, pieces: [40, 24], trackers: { count: 2, callMs: 40 } });
  t.ok(apart.lastMs < shared.lastMs, `two trackers ${apart.lastMs} ms, one ${shared.lastMs} ms`);
});

t.test('a run says how far it is, and a member that dies in one blob is not waited for', async (t) => {
  const words: number[] = [];
  const fault = { kind: 'kill', node: 'a3', atMs: 200 } as const;
  const options = { ...SCENE, nodes: 120, pieces: [64, 64], faults: [fault] };
  const result = simulate(options, ({ busy }) => words.push(busy));
  t.equal(result.finishedMs.size, 119);
  t.ok(words.length >= 1, `${words.length} words`);
  t.ok(words.every((busy) => busy >= 0 && busy <= 240));
});
