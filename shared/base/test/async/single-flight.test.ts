import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { SingleFlight } from '../../src/async/single-flight.ts';
import { CodedError } from '../../src/errors.ts';

const NEVER = new AbortController().signal;

interface Run {
  readonly resolve: (value: string) => void;
  readonly reject: (error: unknown) => void;
}

function made(): { flights: SingleFlight<string, string>; runs: Run[]; ask: () => Promise<string> } {
  const flights = new SingleFlight<string, string>();
  const runs: Run[] = [];
  const work = (): Promise<string> =>
    new Promise((resolve, reject) => {
      runs.push({ resolve, reject });
    });
  return { flights, runs, ask: () => flights.run('blob', work, NEVER) };
}

t.test('who asks for what is under way gets its outcome', async (t) => {
  const { runs, ask } = made();
  const asked = [ask(), ask(), ask()];
  t.equal(runs.length, 1);
  runs[0]!.resolve('found');
  t.strictSame(await Promise.all(asked), ['found', 'found', 'found']);
});

t.test(
  '"unknown" is believed by who asked for it; who came later asks once more, all together',
  async (t) => {
    const { flights, runs, ask } = made();
    const first = ask();
    const later = Array.from({ length: 50 }, () => ask());
    runs[0]!.reject(new CodedError('BLOB_UNKNOWN'));
    await t.rejects(first, { code: 'BLOB_UNKNOWN' });
    t.equal(runs.length, 2, 'one more for all of them');
    runs[1]!.resolve('pushed meanwhile');
    for (const one of later) t.equal(await one, 'pushed meanwhile');
    t.notOk(flights.has('blob'));
  },
);

t.test('unknown again is the answer; other failures are shared', async (t) => {
  const { runs, ask } = made();
  const unknown = [ask(), ask(), ask()];
  const settled = Promise.allSettled(unknown);
  runs[0]!.reject(new CodedError('BLOB_UNKNOWN'));
  await t.rejects(unknown[0]!, { code: 'BLOB_UNKNOWN' });
  runs[1]!.reject(new CodedError('BLOB_UNKNOWN'));
  for (const one of await settled) t.equal(one.status, 'rejected');
  t.equal(runs.length, 2);
  const failing = [ask(), ask()];
  runs[2]!.reject(new CodedError('BACKEND_DOWN'));
  for (const one of await Promise.allSettled(failing)) t.equal(one.status, 'rejected');
  t.equal(runs.length, 3);
});

t.test('what is shared goes on when all have left, and is joined by who comes then', async (t) => {
  const { flights, runs } = made();
  const work = (): Promise<string> => new Promise((resolve, reject) => runs.push({ resolve, reject }));
  const leaver = new AbortController();
  const left = flights.share('blob', work, leaver.signal);
  leaver.abort(new CodedError('DRAINING'));
  await t.rejects(left, { code: 'DRAINING' });
  t.ok(flights.has('blob'));
  t.equal(flights.size, 1);
  const joined = flights.share('blob', work);
  const idle = flights.idle();
  runs[0]!.resolve('found');
  t.equal(await joined, 'found');
  await idle;
  t.equal(runs.length, 1);
  t.equal(flights.size, 0);
  await flights.idle('blob');
});

t.test('what is shared hears when nobody waits; one still does, and it does not', async (t) => {
  const flights = new SingleFlight<string, string>();
  const signals: AbortSignal[] = [];
  const work = (unwanted: AbortSignal): Promise<string> => {
    signals.push(unwanted);
    return new Promise((_, reject) => {
      unwanted.addEventListener('abort', () => setImmediate(() => reject(unwanted.reason)), { once: true });
    });
  };
  const leavers = [new AbortController(), new AbortController()];
  const left = leavers.map(async ({ signal }) => await flights.share('blob', work, signal));
  leavers[0]!.abort(new CodedError('TIMEOUT'));
  await t.rejects(left[0]!, { code: 'TIMEOUT' });
  t.notOk(signals[0]!.aborted);
  leavers[1]!.abort(new CodedError('DRAINING'));
  await t.rejects(left[1]!, { code: 'DRAINING' });
  t.ok(signals[0]!.aborted);
  // Who joins before it has ended does not end with it.
  const stayer = new AbortController();
  const joined = flights.share('blob', work, stayer.signal);
  t.equal(signals.length, 1);
  await flights.idle('blob');
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(signals.length, 2, 'it is begun anew for who joined');
  t.notOk(signals[1]!.aborted);
  const asLong = flights.share('blob', work);
  stayer.abort(new CodedError('TIMEOUT'));
  await t.rejects(joined, { code: 'TIMEOUT' });
  t.notOk(signals[1]!.aborted, 'who cannot leave still waits');
  void asLong;
});

t.test('what is forgotten goes on for who waits for it, and is aborted when they have left', async (t) => {
  const flights = new SingleFlight<string, string>();
  const signals: AbortSignal[] = [];
  const work = (signal: AbortSignal): Promise<string> => {
    signals.push(signal);
    return new Promise(() => {});
  };
  const [first, second] = [new AbortController(), new AbortController()];
  const old = [first, second].map(async ({ signal }) => await flights.run('blob', work, signal));
  flights.forget('blob');
  const anew = flights.run('blob', work, NEVER);
  t.equal(signals.length, 2, 'who comes now begins anew');
  first.abort(new CodedError('DRAINING'));
  await t.rejects(old[0]!, { code: 'DRAINING' });
  t.notOk(signals[0]!.aborted, 'one still waits');
  second.abort(new CodedError('DRAINING'));
  await t.rejects(old[1]!, { code: 'DRAINING' });
  t.ok(signals[0]!.aborted);
  t.notOk(signals[1]!.aborted, 'the other run is not theirs');
  t.ok(flights.has('blob'));
  void anew;
});

t.test('one that hangs takes in nobody after its time, and goes on for who waits for it', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const flights = new SingleFlight<string, string>({ joinMs: 1_000 });
  const runs: Run[] = [];
  const ask = (): Promise<string> =>
    flights.run('blob', () => new Promise((resolve, reject) => runs.push({ resolve, reject })), NEVER);
  const old = [ask()];
  await time.pass(900);
  old.push(ask());
  t.equal(runs.length, 1, 'who comes in time joins');
  await time.pass(200);
  const anew = ask();
  t.equal(runs.length, 2, 'who comes later begins anew');
  runs[0]!.resolve('old');
  t.same(await Promise.all(old), ['old', 'old']);
  t.ok(flights.has('blob'), 'the other run is not theirs');
  runs[1]!.resolve('new');
  t.equal(await anew, 'new');
  t.notOk(flights.has('blob'));
});
