import t from 'tap';
import { silentOf, toldOfSilent } from '../../src/operator/job-answers.ts';

t.test('origins that did not take part are named, and the exit code says so', (t) => {
  const { exitCode } = process;
  t.teardown(() => {
    process.exitCode = exitCode;
  });
  const error = new Error('silent');
  t.equal(toldOfSilent(silentOf([{ id: 'o1' }, { id: 'o2' }])), '');
  t.equal(process.exitCode, exitCode);
  t.equal(toldOfSilent(silentOf([{ id: 'o1' }, { id: 'o2', error }])), ' (no answer from o2)');
  t.equal(process.exitCode, 1);
  t.throws(() => silentOf([{ id: 'o1', error }]), error);
  t.end();
});
