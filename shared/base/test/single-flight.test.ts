import t from 'tap';
import { SingleFlight } from '../src/async/single-flight.ts';

const NEVER = new AbortController().signal;

function flight() {
  const flights = new SingleFlight<string, number>();
  const begun: { signal: AbortSignal; resolve: (value: number) => void; reject: (error: unknown) => void }[] =
    [];
  const work = (signal: AbortSignal): Promise<number> =>
    new Promise((resolve, reject) => {
      begun.push({ signal, resolve, reject });
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  return { flights, begun, work };
}

t.test('who asks for what is under way joins it', async (t) => {
  const { flights, begun, work } = flight();
  const both = [flights.run('a', work, NEVER), flights.run('a', work, NEVER), flights.run('b', work, NEVER)];
  t.equal(begun.length, 2);
  t.ok(flights.has('a'));
  begun[0]!.resolve(1);
  begun[1]!.resolve(2);
  t.same(await Promise.all(both), [1, 1, 2]);
  t.notOk(flights.has('a'));
});

t.test('one that leaves does not end it for the others; when all leave, it is aborted', async (t) => {
  const { flights, begun, work } = flight();
  const [first, second] = [new AbortController(), new AbortController()];
  const one = flights.run('a', work, first.signal);
  const other = flights.run('a', work, second.signal);
  first.abort(new Error('first leaves'));
  await t.rejects(one, { message: 'first leaves' });
  t.notOk(begun[0]!.signal.aborted);
  second.abort(new Error('second leaves'));
  await t.rejects(other, { message: 'second leaves' });
  t.ok(begun[0]!.signal.aborted);
  const again = flights.run('a', work, NEVER);
  t.equal(begun.length, 2, 'the next begins anew');
  begun[1]!.resolve(3);
  t.equal(await again, 3);
});

t.test('all get its failure, and the next begins anew', async (t) => {
  const { flights, begun, work } = flight();
  const both = [flights.run('a', work, NEVER), flights.run('a', work, NEVER)];
  begun[0]!.reject(new Error('failed'));
  for (const one of both) await t.rejects(one, { message: 'failed' });
  t.notOk(flights.has('a'));
  await t.rejects(flights.run('a', work, AbortSignal.abort(new Error('gone'))), { message: 'gone' });
});
