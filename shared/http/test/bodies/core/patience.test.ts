import { CodedError } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Patience } from '../../../src/bodies/core/patience.ts';

const PROGRESS_MS = 10_000;
const NOWHERE = new CodedError('NO_PEERS', { message: 'nobody has a right copy', detail: { piece: 3 } });
const REFUSED = new CodedError('PEER_HTTP', { message: 'refused' });

t.test('it lasts as long as progress may take since the start, or since news', async (t) => {
  const patience = new Patience(PROGRESS_MS, 500);
  t.equal(patience.roundEnded(0, 500 + PROGRESS_MS), undefined, 'not before the time is over');
  t.match(patience.roundEnded(0, 501 + PROGRESS_MS), { code: 'NO_PEERS', message: /within 10 s/ });
  t.equal(patience.roundEnded(501, 501 + PROGRESS_MS), undefined, 'something came since');
});

t.test('what all holders say twice in a row ends it', async (t) => {
  const patience = new Patience(PROGRESS_MS, 0);
  const round = (...said: readonly unknown[]): unknown => {
    for (const error of said) patience.failed(error, false, 0, 0);
    return patience.roundEnded(0, 0);
  };
  t.equal(round(NOWHERE, NOWHERE), undefined);
  t.equal(round(NOWHERE, REFUSED), undefined, 'one says something else: it begins anew');
  t.equal(round(NOWHERE, NOWHERE), undefined);
  t.equal(round(), undefined, 'nobody was there to say it');
  t.equal(round(NOWHERE), undefined);
  patience.gaveUp();
  t.equal(round(NOWHERE), undefined, 'one said nothing');
  t.equal(round(NOWHERE), undefined);
  t.equal(round(NOWHERE, NOWHERE), NOWHERE);
  const other = new CodedError('NO_PEERS');
  t.equal(round(other), undefined, 'of no piece: it has no holder');
  t.equal(round(other), undefined);
});

t.test('who takes over from a silence that lasted has the time anew, once', async (t) => {
  const patience = new Patience(PROGRESS_MS, 0);
  const at = PROGRESS_MS + 1;
  patience.failed(REFUSED, false, 0, at);
  t.match(patience.roundEnded(0, at), { code: 'NO_PEERS' }, 'a refusal gives no time');
  patience.failed(REFUSED, true, 1, at);
  t.match(patience.roundEnded(0, at), { code: 'NO_PEERS' }, 'nor does a silence that was short');
  patience.failed(REFUSED, true, 0, at);
  t.equal(patience.roundEnded(0, at + PROGRESS_MS), undefined);
  patience.failed(REFUSED, true, at, at + PROGRESS_MS + 1);
  t.match(patience.roundEnded(0, at + PROGRESS_MS + 1), { code: 'NO_PEERS' }, 'not a second time');
});

t.test('whatever members do, it ends', async (t) => {
  const said = fc.constantFrom('silence', 'refusal', 'given up', 'nowhere');
  const rounds = fc.array(
    fc.record({ said: fc.array(said, { maxLength: 4 }), tookMs: fc.nat(PROGRESS_MS) }),
    {
      minLength: 120,
      maxLength: 120,
    },
  );
  fc.assert(
    fc.property(rounds, (list) => {
      const patience = new Patience(PROGRESS_MS, 0);
      let nowMs = 0;
      for (const round of list) {
        const askedMs = nowMs;
        nowMs += round.tookMs + 250;
        for (const one of round.said) {
          if (one === 'given up') patience.gaveUp();
          else patience.failed(one === 'nowhere' ? NOWHERE : REFUSED, one === 'silence', askedMs, nowMs);
        }
        if (patience.roundEnded(0, nowMs) !== undefined) return true;
        // The time that it has, once anew, and the round in which that ends.
        if (nowMs > 3 * PROGRESS_MS + 500) return false;
      }
      return false;
    }),
  );
  t.pass('held');
});
