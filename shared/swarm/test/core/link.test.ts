import t from 'tap';
import { CORE_LIMITS as LIMITS } from '../../src/core/limits.ts';
import { wireOf } from '../../src/core/link.ts';
import { makeLink } from '../support/core.ts';

const NO_LINE = { ms: 0, longMs: 0 };

const MIB = 1024 * 1024;

t.test(
  'it can serve what it has, unless it is asked for it, chokes, stalls, rests or refused it lately',
  async (t) => {
    const one = makeLink();
    t.notOk(one.canServe(3, 0), 'it has nothing');
    one.has.add(3);
    t.ok(one.canServe(3, 0));
    one.refuse(3, 50);
    t.notOk(one.canServe(3, 49));
    t.ok(one.canServe(3, 50));
    t.notOk(one.refuses(50), 'the refusal is over');
    one.choke(true);
    t.notOk(one.canServe(3, 60));
    one.choke(false);
    one.pause(LIMITS, 60);
    t.notOk(one.canServe(3, 60 + LIMITS.backoffMinMs - 1));
    t.ok(one.canServe(3, 60 + LIMITS.backoffMinMs));
    one.pause(LIMITS, 1_000);
    t.equal(one.notBeforeMs, 1_000 + 2 * LIMITS.backoffMinMs, 'it doubles');
    one.begin(3, 5_000);
    t.notOk(one.canServe(3, 5_000), 'it is on its way');
    const http = makeLink({ kind: 'http', httpHas: (index) => index === 2 });
    t.ok(http.canServe(2, 0));
    t.notOk(http.canServe(3, 0));
  },
);

t.test('as many pieces are asked for at once as keep it busy over a round trip', async (t) => {
  const one = makeLink();
  t.equal(one.depth(LIMITS), LIMITS.depthMin, 'nothing is measured yet');
  t.equal(one.costMs(), (MIB * 1_000) / 20e6 + 30);
  one.begin(0, 0);
  t.equal(one.room(LIMITS), LIMITS.depthMin - 1);
  one.onBytes(0, 8 * MIB, 100);
  t.equal(one.rateBytesPerSec, 80 * MIB);
  t.equal(one.rttMs, 30 + (100 - 30) * 0.3, 'the first bytes of a piece that was alone');
  t.equal(one.depth(LIMITS), LIMITS.depthMax);
  t.ok(one.costMs() < 2 * (1_000 / 80) + one.rttMs + 1);
  t.equal(makeLink({ kind: 'http', httpHas: () => true }).depth(LIMITS), LIMITS.httpDepth);
  const stranger = makeLink({ isStranger: true });
  t.ok(stranger.choked, 'a stranger serves nothing before it says so');
  t.equal(stranger.depth(LIMITS), LIMITS.strangerDepth);
});

t.test('silence makes it stalled, then given up; a request answered over HTTP may take longer', async (t) => {
  const one = makeLink();
  one.begin(0, 1_000);
  t.notOk(one.checkSilence(LIMITS, 1_000 + LIMITS.stallMs - 1, NO_LINE));
  t.notOk(one.stalled);
  t.notOk(one.checkSilence(LIMITS, 1_000 + LIMITS.stallMs, NO_LINE));
  t.ok(one.stalled);
  t.ok(one.checkSilence(LIMITS, 1_000 + LIMITS.hungMs, NO_LINE));
  one.onBytes(0, 10, 20_000);
  t.notOk(one.stalled, 'bytes came');
  const http = makeLink({ kind: 'http', httpHas: () => true });
  http.begin(0, 0);
  t.notOk(http.checkSilence(LIMITS, 3 * LIMITS.hungMs - 1, NO_LINE));
  t.ok(http.checkSilence(LIMITS, 3 * LIMITS.hungMs, NO_LINE));
});

t.test('who is silent for less than the own line needs is neither stalled nor given up', async (t) => {
  const one = makeLink();
  one.begin(0, 0);
  const lineMs = 8_000;
  const line = { ms: lineMs, longMs: lineMs + 1_000 };
  t.notOk(one.checkSilence(LIMITS, lineMs - 1, line));
  t.notOk(one.stalled);
  t.notOk(one.checkSilence(LIMITS, 2 * line.longMs - 1, line));
  t.ok(one.stalled);
  t.ok(one.checkSilence(LIMITS, 2 * line.longMs, line));
});

t.test('one whose pieces came from elsewhere is tried again after a pause', async (t) => {
  const one = makeLink();
  one.begin(0, 0);
  one.checkSilence(LIMITS, LIMITS.stallMs, NO_LINE);
  one.end(0);
  t.notOk(one.checkSilence(LIMITS, 4 * LIMITS.stallMs, NO_LINE));
  t.ok(one.stalled);
  t.notOk(one.checkSilence(LIMITS, 4 * LIMITS.stallMs + 1, NO_LINE));
  t.notOk(one.stalled);
});

t.test('time without work is no slowness', async (t) => {
  const one = makeLink();
  one.suggested.add(4);
  one.begin(4, 60_000);
  t.notOk(one.suggested.has(4));
  one.onBytes(4, MIB, 60_100);
  t.equal(one.rateBytesPerSec, 10 * MIB);
  one.onBytes(7, 1, 60_200);
  t.equal(one.fetches.get(4)?.bytes, MIB, 'bytes of another piece are no bytes of this one');
});

t.test('wires are found by peer', async (t) => {
  const links = [
    makeLink(),
    makeLink({ peerId: 's1', isStranger: true }),
    makeLink({ peerId: 'p2', kind: 'http', httpHas: () => true }),
  ];
  t.equal(wireOf(links, 's1'), links[1]);
  t.equal(wireOf(links, 'p2'), undefined);
});

t.test('its front is the first piece that it has not', async (t) => {
  const link = makeLink({ pieceCount: 4 });
  t.equal(link.front, 0);
  link.has.add(1);
  t.equal(link.front, 0);
  link.has.add(0);
  t.equal(link.front, 2);
  link.has.add(3);
  t.equal(link.front, 2);
  link.has.add(2);
  t.equal(link.front, 4, 'it has all');
  t.equal(link.front, 4);
});
