import t from 'tap';
import { FAULTS, roundsOf, type Topology } from '../schedule.ts';

const TOPOLOGY: Topology = {
  origins: ['origin-1', 'origin-2', 'origin-3'],
  proxies: ['proxy-1', 'proxy-2'],
  trackers: ['tracker-1'],
  agents: ['agent-1'],
  smallDisk: 'origin-3',
};

t.test('a seed gives its rounds again', async (t) => {
  t.same(roundsOf(7, 50, TOPOLOGY, FAULTS), roundsOf(7, 50, TOPOLOGY, FAULTS));
  t.notSame(roundsOf(7, 50, TOPOLOGY, FAULTS), roundsOf(8, 50, TOPOLOGY, FAULTS));
  t.same(roundsOf(7, 20, TOPOLOGY, FAULTS), roundsOf(7, 50, TOPOLOGY, FAULTS).slice(0, 20));
});

t.test('every fault and every operation comes', async (t) => {
  const rounds = roundsOf(1, 60, TOPOLOGY, FAULTS);
  t.same(new Set(rounds.map(({ fault }) => fault.name)), new Set(FAULTS));
  const types = rounds.flatMap(({ operations }) => operations.map(({ type }) => type));
  t.equal(new Set(types).size, 6);
});

t.test('what is left out does not come; disks are those of origins', async (t) => {
  const rounds = roundsOf(1, 60, { ...TOPOLOGY, smallDisk: undefined }, ['kill', 'disk-lost']);
  t.same(new Set(rounds.map(({ fault }) => fault.name)), new Set(['kill', 'disk-lost']));
  const lost = rounds.filter(({ fault }) => fault.name === 'disk-lost');
  t.ok(lost.every(({ fault }) => TOPOLOGY.origins.includes(fault.victim)));
});
