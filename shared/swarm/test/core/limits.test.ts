import { Bitfield } from '@sepia/base/bitfield';
import t from 'tap';
import { CORE_LIMITS, type CoreLimits } from '../../src/core/limits.ts';
import { SharedLine } from '../../src/core/line/shared-line.ts';
import { all, of, PIECES, start } from '../support/core.ts';

const governed = new Set<string>();

/** Each measures what one limit governs; two values must give two findings, so that a limit that is ignored fails. */
function governs<K extends keyof CoreLimits>(
  name: K,
  first: readonly [value: number, found: unknown],
  second: readonly [value: number, found: unknown],
  measure: (limits: Partial<CoreLimits>) => unknown,
): void {
  governed.add(name);
  t.test(name, async (t) => {
    for (const [value, found] of [first, second])
      t.same(measure({ [name]: value }), found, `${name} ${value}`);
  });
}

const peers = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    peerId: `p${i}`,
    addresses: [`h:${i}`],
    origin: false,
    zone: 'z1',
  }));
type Started = ReturnType<typeof start>;
const fetchesOf = ({ core }: Started) => [...core.links.values()].map((link) => link.fetches.size);
const total = (started: Started) => fetchesOf(started).reduce((sum, one) => sum + one, 0);

/** Ticks until `until` says so; returns the time, or −1. */
function ticks({ tell }: Started, until: (effects: ReturnType<Started['tell']>) => boolean, maxMs = 20_000) {
  for (let atMs = 50; atMs <= maxMs; atMs += 50)
    if (until(tell({ type: 'timer', key: 'tick' }, atMs))) return atMs;
  return -1;
}

governs('knownPeers', [5, 5], [7, 7], (limits) => {
  const { tell } = start({ limits: { ...limits, dialledWires: 20 } });
  return of(tell({ type: 'peers', peers: peers(12) }), 'dial').length;
});

governs(
  'dialledWires',
  [2, 2],
  [4, 4],
  (limits) => of(start({ limits }).tell({ type: 'peers', peers: peers(9) }), 'dial').length,
);

governs('wires', [1, 'full'], [2, 'yes'], (limits) => {
  const { core, wire } = start({ limits });
  wire('a', []);
  return core.welcome('b', 0);
});

governs('strangerWires', [1, 'full'], [2, 'yes'], (limits) => {
  const { core, wire } = start({ limits });
  wire('stranger 192.0.2.1:5000', [], { isStranger: true });
  return core.welcome('stranger 192.0.2.2:5000', 0);
});

governs('strangerDepth', [1, [1]], [3, [3]], (limits) => {
  const one = start({ limits });
  const { link } = one.wire('stranger 192.0.2.1:5000', all(), { isStranger: true });
  one.tell({ type: 'choked', link, on: false });
  return fetchesOf(one);
});

governs('depthMin', [1, [1]], [3, [3]], (limits) => {
  const one = start({ limits });
  one.wire('a', all());
  return fetchesOf(one);
});

governs('depthMax', [3, 3], [6, 6], (limits) => {
  const one = start({ limits: { ...limits, inFlightMin: 30 } });
  const { link } = one.wire('a', all());
  for (let atMs = 100; atMs < 1_000; atMs += 100)
    one.tell({ type: 'progress', link, index: 0, bytes: 2 ** 27 }, atMs);
  one.tell({ type: 'hashes' });
  return total(one);
});

governs('httpDepth', [1, 1], [3, 3], (limits) => {
  const one = start({ limits });
  one.tell({ type: 'httpUp', link: one.core.drawLink(), has: () => true });
  return total(one);
});

const crowd = (limits: Partial<CoreLimits>, bytesPer100Ms: number) => {
  const one = start({ limits: { depthMin: 3, ...limits } });
  const links = Array.from({ length: 12 }, (_, i) => one.wire(`p${i}`, all()).link);
  for (let atMs = 100; atMs < 2_000; atMs += 100)
    one.tell({ type: 'progress', link: links[0]!, index: 0, bytes: bytesPer100Ms }, atMs);
  one.tell({ type: 'hashes' });
  return total(one);
};
governs('inFlightMin', [4, 4], [9, 9], (limits) => crowd(limits, 1));
/** Seven more swarms on the line, each with something on its way to it and to others. */
const busyLine = (bytesPerSec = 0): SharedLine => {
  const line = new SharedLine(0);
  for (const place of Array.from({ length: 7 }, () => line.place()))
    for (const share of [place.asked, place.suggested]) share.note(1);
  if (bytesPerSec > 0) line.place().rate.add(bytesPerSec, 1_000);
  return line;
};
const beside = (limits: Partial<CoreLimits>, bytesPerSec: number) => {
  const one = start({ limits: { depthMin: 9, ...limits }, line: busyLine(bytesPerSec).place() });
  one.wire('a', all());
  return total(one);
};
governs('inFlightLeast', [2, 2], [4, 4], (limits) => beside(limits, 0));
// 24 pieces of 1 MiB, one a second.
governs('sharedQueueMs', [23_000, 1], [24_000, 3], (limits) => beside(limits, 2 ** 20));
governs('inFlight', [10, 10], [14, 14], (limits) => crowd(limits, 2 ** 30));
governs('inFlightFewMs', [1_000, 10], [2_000, 20], (limits) => crowd(limits, 2 ** 20));
// Few is what is less than twice `inFlight`.
governs('inFlightMs', [500, 5], [1_000, 10], (limits) =>
  crowd({ inFlightFewMs: 1, inFlight: 12, inFlightMin: 0, fewPeers: 1, ...limits }, 2 ** 20),
);
// With four times as many peers as `fewPeers` says the whole time counts, with fewer half of it.
governs('fewPeers', [1, 10], [64, 5], (limits) =>
  crowd({ inFlightFewMs: 1, inFlight: 12, inFlightMin: 0, inFlightMs: 1_000, ...limits }, 2 ** 20),
);

governs('readerHead', [1, 1], [3, 3], (limits) => {
  const one = start({ limits: { depthMin: 0, inFlightMin: 0, readerWindow: 0, ...limits } });
  one.tell({ type: 'reader', reader: 0, index: 5 });
  one.wire('a', all());
  return total(one);
});

governs('readerWindow', [4, true], [40, false], (limits) => {
  let near = 0;
  for (let seed = 0; seed < 60; seed++) {
    const one = start({ seed, limits: { depthMin: 1, readerHead: 0, ...limits } });
    one.tell({ type: 'reader', reader: 0, index: 0 });
    if (of(one.wire('a', all()).effects, 'fetch')[0]!.index < 4) near += 1;
  }
  return near > 20;
});

const lone = (limits: Partial<CoreLimits>) => {
  const wide = { depthMin: 40, depthMax: 40, inFlightMin: 40, inFlight: 40 };
  const one = start({ limits: { ...wide, ...limits } });
  one.tell({ type: 'reader', reader: 0, index: 0 });
  one.wire('origin', all(), { origin: true });
  return one;
};
governs('loneWindow', [4, 4], [9, 9], (limits) => total(lone(limits)));
governs('readerMovesMs', [100, 150], [400, 450], (limits) =>
  ticks(lone(limits), (effects) => of(effects, 'fetch').length > 0),
);

governs('sample', [1, false], [128, true], (limits) => {
  // A full look at all pieces finds the one rare piece; a sample of one hardly ever does.
  let rare = 0;
  for (let seed = 0; seed < 30; seed++) {
    const one = start({ seed, limits: { depthMin: 1, inFlightMin: 3, ...limits } });
    one.wire('a', all().slice(0, 39));
    one.wire('b', all().slice(0, 39));
    if (of(one.wire('c', all()).effects, 'fetch')[0]!.index === 39) rare += 1;
  }
  return rare === 30;
});

governs('originGraceMs', [200, 200], [600, 600], (limits) => {
  const one = start({ limits: { depthMin: 0, inFlightMin: 0, ...limits } });
  one.wire('peer', []);
  const { link } = one.wire('o', all(), { origin: true });
  one.tell({ type: 'reader', reader: 0, index: 3 });
  one.tell({ type: 'reader', reader: 0, index: 4 });
  return ticks(one, (effects) => of(effects, 'fetch').some((one) => one.link === link && one.index === 4));
});

governs('httpWhileDialling', [1, 1], [2, 2], (limits) => {
  const one = start({ limits: { readerHead: 8, ...limits } });
  one.tell({ type: 'reader', reader: 0, index: 0 });
  one.tell({ type: 'peers', peers: peers(3) });
  one.tell({ type: 'httpUp', link: one.core.drawLink(), has: () => true });
  return total(one);
});

governs('readerHttpMs', [2_000, 2_000], [5_000, 5_000], (limits) => {
  const one = start({ limits });
  const { link } = one.wire('slow', all());
  const http = one.core.drawLink();
  one.tell({ type: 'httpUp', link: http, has: () => true });
  one.tell({ type: 'reader', reader: 0, index: 0 });
  return ticks(one, (effects) => {
    const asked = of(effects, 'fetch').some((fetch) => fetch.link === http);
    // The wire moves, and our own line is quick, but not with the reader's piece.
    one.tell({ type: 'progress', link, index: 39, bytes: 2 ** 20 });
    return asked;
  });
});

governs('readerLateMs', [300, 300], [600, 600], (limits) => {
  const one = start({ limits: { ...limits, depthMin: 1 } });
  const { link } = one.wire('slow', [0]);
  one.tell({ type: 'reader', reader: 0, index: 0 });
  one.wire('quick', [0]);
  return ticks(one, (effects) => {
    const asked = of(effects, 'fetch').some((fetch) => fetch.link !== link);
    one.tell({ type: 'progress', link, index: 0, bytes: 1_000 });
    return asked;
  });
});

governs('stallMs', [500, 500], [1_500, 1_500], (limits) => {
  const one = start({ limits });
  one.wire('a', [0]);
  one.wire('b', [0]);
  return ticks(one, (effects) => of(effects, 'fetch').length > 0);
});

governs(
  'tickMs',
  [100, 100],
  [400, 400],
  (limits) => of(start({ limits }).tell({ type: 'hashes' }), 'setTimer')[0]!.atMs,
);

governs('hungMs', [3_000, 3_000], [6_000, 6_000], (limits) => {
  const one = start({ limits });
  one.wire('a', all());
  return ticks(one, (effects) => of(effects, 'close').some((close) => close.reason === 'failed'));
});

governs('lineMs', [6_000, 13_000], [8_000, 17_000], (limits) => {
  const one = start({ limits });
  const { link } = one.wire('a', all());
  // 1 KiB a second: what it is asked for needs a quarter of an hour and more.
  one.tell({ type: 'progress', link, index: 0, bytes: 1_024 }, 1_000);
  return ticks(one, (effects) => of(effects, 'close').some((close) => close.reason === 'failed'));
});

const endgame = (limits: Partial<CoreLimits>, wires = 4, known = 1) => {
  const one = start({ limits, knows: (index) => index < known });
  const links = Array.from({ length: wires }, (_, i) => one.wire(`p${i}`, all()).link);
  const atMs = ticks(
    one,
    (effects) => {
      for (const link of links)
        for (const index of one.core.links.get(link)?.fetches.keys() ?? [])
          one.tell({ type: 'progress', link, index, bytes: 1 });
      return of(effects, 'fetch').length > 0;
    },
    8_000,
  );
  ticks(one, () => false, 500);
  return {
    atMs,
    sources: Math.max(
      ...all().map((index) => [...one.core.links.values()].filter((link) => link.fetches.has(index)).length),
    ),
  };
};
governs('fetchers', [1, 1], [2, 2], (limits) => endgame({ endgameMinMs: 100, ...limits }).sources);
governs('endgame', [0, -1], [4, 500], (limits) => endgame({ endgameFactor: 0, ...limits }).atMs);
governs(
  'endgameMinMs',
  [300, 300],
  [900, 900],
  (limits) => endgame({ endgameFactor: 0, stallMs: 50_000, ...limits }).atMs,
);
governs('endgameFactor', [0, 100], [30, true], (limits) => {
  const { atMs } = endgame({ endgameMinMs: 100, stallMs: 50_000, ...limits });
  return limits.endgameFactor === 0 ? atMs : atMs > 1_000;
});

governs('refusedMs', [300, 300], [900, 900], (limits) => {
  const one = start({ limits, knows: (index) => index === 0 });
  const { link } = one.wire('a', [0]);
  one.tell({ type: 'fetchFailed', link, index: 0, busy: false }, 0);
  return ticks(one, (effects) => of(effects, 'fetch').length > 0);
});

const failing = (limits: Partial<CoreLimits>, failures: number) => {
  const one = start({ limits });
  const link = one.core.drawLink();
  one.tell({ type: 'httpUp', link, has: (index) => index === 0 });
  let lastMs = 0;
  for (let i = 0; i < failures; i++) {
    one.tell({ type: 'fetchFailed', link, index: 0, busy: false });
    const fromMs = lastMs;
    for (let atMs = fromMs + 50; ; atMs += 50) {
      if (of(one.tell({ type: 'timer', key: 'tick' }, atMs), 'fetch').length === 0) continue;
      lastMs = atMs;
      if (i === failures - 1) return atMs - fromMs;
      break;
    }
  }
  return -1;
};
governs('backoffMinMs', [200, 200], [700, 700], (limits) => failing(limits, 1));
governs('backoffMaxMs', [1_000, 1_000], [30_000, 8_000], (limits) => failing(limits, 5));

governs('originBanMs', [1_000, 'yes'], [9_000, 'banned'], (limits) => {
  const { core, tell, wire } = start({ limits });
  const { link } = wire('o', all(), { origin: true });
  tell({ type: 'fetched', link, index: 0, good: false });
  return core.welcome('o', 2_000);
});

governs('settledMs', [1_000, 'second'], [9_000, 'first'], (limits) => {
  const one = start({ limits });
  // The bigger id dialled the second: it wins only against a wire that is settled.
  const first = one.wire('z', [], { dialled: true });
  one.tell({ type: 'timer', key: 'tick' }, 2_000);
  one.wire('z', [], { dialled: false });
  return one.core.links.has(first.link) ? 'first' : 'second';
});

const origin = (limits: Partial<CoreLimits>, line = new SharedLine(0)) =>
  start({ limits, line: line.place(), origin: true, leech: false, have: Bitfield.full(PIECES) });
governs(
  'suggestions',
  [1, 1],
  [4, 4],
  (limits) => of(origin(limits).wire('a', []).effects, 'sendSuggest').length,
);
/** Suggestions to four peers. */
const suggested = (limits: Partial<CoreLimits>, line = new SharedLine(0)): number[] => {
  const one = origin(limits, line);
  return ['a', 'b', 'c', 'd'].flatMap((peerId) =>
    of(one.wire(peerId, []).effects, 'sendSuggest').map(({ index }) => index),
  );
};
governs('openSuggestions', [3, 3], [7, 7], (limits) => suggested(limits).length);
governs('suggestionsLeast', [1, 1], [4, 4], (limits) => suggested(limits, busyLine()).length);
governs('seedAhead', [3, [0, 1, 2]], [5, [0, 1, 2, 3, 4]], (limits) => suggested(limits).toSorted());
const admitted = (limits: Partial<CoreLimits>, leechers: number) => {
  const one = origin({ suggestions: 0, ...limits });
  const links = Array.from({ length: leechers }, (_, i) => one.wire(`p${i}`, []).link);
  return links.filter((link) => one.tell({ type: 'asked', link, index: 0 })[0]!.type === 'readPiece').length;
};
governs('originCopies', [1, 1], [3, 3], (limits) => admitted(limits, 5));
governs('freeLeechers', [2, 1], [5, 5], (limits) => admitted(limits, 5));

governs('wantPeersMs', [500, 500], [2_000, 2_000], (limits) =>
  ticks(start({ limits }), (effects) => of(effects, 'wantPeers').length > 0),
);

governs('banMs', [1_000, 'yes'], [9_000, 'banned'], (limits) => {
  const { core, tell, wire } = start({ limits });
  const { link } = wire('liar', all());
  tell({ type: 'fetched', link, index: 0, good: false });
  return core.welcome('liar', 2_000);
});

governs('farShare', [1, 8], [0.1, 4], (limits) => {
  // Without bytes from the own zone only the first four pieces may cross.
  const one = start({ limits: { depthMin: 8, depthMax: 8, ...limits } });
  one.wire('near', []);
  one.wire('far', all(), { zone: 'z2' });
  return total(one);
});

t.test('every limit of the core is tried', async (t) => {
  // `dialMs` is the shell's.
  t.same(
    Object.keys(CORE_LIMITS).filter((name) => !governed.has(name)),
    ['dialMs'],
  );
});
