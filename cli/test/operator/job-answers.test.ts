import t from 'tap';
import { exitBySilent, silentOf, tellDone, toldOfSilent } from '../../src/operator/job-answers.ts';

const error = new Error('silent');

t.test('origins that did not take part are named', (t) => {
  t.equal(toldOfSilent(silentOf([{ id: 'o1' }, { id: 'o2' }])), '');
  t.equal(toldOfSilent(silentOf([{ id: 'o1' }, { id: 'o2', error }])), ' (no answer from o2)');
  t.throws(() => silentOf([{ id: 'o1', error }]), error);
  t.end();
});

t.test('what not all of them did exits with 1', (t) => {
  const { exitCode } = process;
  const { write } = process.stdout;
  t.teardown(() => {
    process.exitCode = exitCode;
    process.stdout.write = write;
  });
  const said: string[] = [];
  process.stdout.write = (text: unknown): boolean => said.push(String(text)) > 0;
  tellDone('tried again', []);
  const whole = process.exitCode;
  tellDone('tried again', ['o2'], '; see there');
  const part = process.exitCode;
  process.exitCode = exitCode;
  exitBySilent([]);
  const all = process.exitCode;
  exitBySilent(['o2']);
  const some = process.exitCode;
  process.stdout.write = write;
  t.equal(whole, exitCode);
  t.equal(part, 1);
  t.equal(all, exitCode, 'a status that all told');
  t.equal(some, 1, 'and one that lacks what an origin runs');
  t.same(said, ['tried again\n', 'tried again (no answer from o2); see there\n']);
  t.end();
});
