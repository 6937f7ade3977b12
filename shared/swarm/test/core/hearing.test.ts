import { fc } from '@sepia/test-support/property';
import t from 'tap';
import type { SwarmEffect, SwarmEvent } from '../../src/core/events.ts';
import { PIECES, start } from '../support/core.ts';

const PEERS = ['a', 'b', 'c'] as const;
/** With three wires up nobody is dialled, and with two pieces on their way nothing more is asked for. */
const limits = { dialledWires: 3, inFlight: 2, inFlightMin: 2, readerHead: 2 };

const peer = fc.constantFrom(...PEERS);
const index = fc.nat(PIECES - 1);
const STEP = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ what: fc.constant('haves'), peer, indexes: fc.array(index, { maxLength: 4 }) }),
  },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('block'), peer }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('fetched'), peer }) },
  fc.record({ what: fc.constantFrom('down', 'suggested', 'asked'), peer, index }),
  fc.record({ what: fc.constantFrom('reader', 'readerClosed', 'timer', 'landed'), index }),
);
type Step = { what: string; peer?: (typeof PEERS)[number]; index?: number; indexes?: number[] };

/** What comes of the steps; `isPrompt`: nothing that is said ever waits. */
function play(steps: readonly Step[], isPrompt: boolean): { effects: SwarmEffect[]; said: string } {
  const { core, tell: handle } = start({ limits });
  const effects: SwarmEffect[] = [];
  let nowMs = 0;
  const tell = (event: SwarmEvent): void => {
    // Whoever looks at the links is shown all that was said.
    if (isPrompt) void core.links;
    effects.push(...handle(event, nowMs));
  };
  const links = new Map<string, number>();
  const linkOf = (peerId: string): number => {
    const there = links.get(peerId);
    if (there !== undefined) return there;
    const link = core.drawLink();
    links.set(peerId, link);
    tell({ type: 'wireUp', link, peerId, origin: false, zone: 'z1', dialled: true });
    tell({ type: 'bitfield', link, indexes: [PEERS.indexOf(peerId as 'a')] });
    return link;
  };
  for (const one of PEERS) linkOf(one);
  for (const { what, peer: peerId = 'a', index: piece = 0, indexes = [] } of steps) {
    nowMs += 40;
    const link = linkOf(peerId);
    const asked = effects.filter(
      (one) => one.type === 'fetch' && one.link === link && core.isAsked(link, one.index),
    );
    const first = asked[0]?.type === 'fetch' ? asked[0].index : undefined;
    if (what === 'haves') tell({ type: 'haves', link, indexes });
    else if (what === 'block' && first !== undefined)
      tell({ type: 'progress', link, index: first, bytes: 300_000 });
    else if (what === 'fetched' && first !== undefined) {
      tell({ type: 'fetched', link, index: first, good: true });
      tell({ type: 'written', index: first, ok: true });
    } else if (what === 'down') {
      links.delete(peerId);
      tell({ type: 'linkDown', link, reason: 'closed' });
    } else if (what === 'suggested' || what === 'asked') tell({ type: what, link, index: piece });
    else if (what === 'reader') tell({ type: 'reader', reader: 1, index: piece });
    else if (what === 'readerClosed') tell({ type: 'readerClosed', reader: 1 });
    else if (what === 'landed') tell({ type: 'landed', index: piece });
    else if (what === 'timer') tell({ type: 'timer', key: 'tick' });
  }
  const said = [...core.links.values()].map((link) => `${link.peerId}: ${[...link.has].join()}`);
  return { effects, said: [...said, ...core.links.eager.map(({ id }) => `${id}`)].join('; ') };
}

t.test('whether what peers say waits or not, the same comes of it', async (t) => {
  fc.assert(
    fc.property(fc.array(STEP, { maxLength: 60 }), (steps) => {
      const waited = play(steps, false);
      const prompt = play(steps, true);
      t.strictSame(waited.effects, prompt.effects);
      return waited.said === prompt.said;
    }),
    { numRuns: 300 },
  );
});

t.test('what is said while nothing is to be done for it waits until somebody looks', async (t) => {
  const { core, tell, wire } = start({ limits });
  const [a, b] = ['a', 'b', 'c'].map((peerId) => wire(peerId, [0, 1]).link) as [number, number];
  const counts = (): number[] => [...core.links.values()].map(({ has }) => has.count);
  t.strictSame(tell({ type: 'haves', link: a, indexes: [5, 6] }), []);
  t.strictSame(tell({ type: 'haves', link: b, indexes: [7] }), []);
  t.strictSame(tell({ type: 'haves', link: 99, indexes: [8] }), [], 'nobody says that');
  t.strictSame(counts(), [4, 3, 2]);
  const asked = [0, 1].filter((index) => core.isAsked(a, index));
  t.strictSame(asked, [...core.links.get(a)!.fetches.keys()]);
  t.equal(asked.length, 1, 'more is not on its way');
  t.notOk(core.isAsked(99, 0));
  tell({ type: 'bitfield', link: b, indexes: new Set([9, 10]) });
  t.strictSame(counts(), [4, 5, 2]);
});
