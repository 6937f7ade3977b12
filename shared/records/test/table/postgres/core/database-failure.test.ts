import t from 'tap';
import { databaseFailure, mayBeDone } from '../../../../src/table/postgres/core/database-failure.ts';

t.test('what an error of the database means', async (t) => {
  for (const [state, meaning] of [
    ['40001', 'contended'],
    ['40P01', 'contended'],
    ['57P01', 'silence'],
    ['57P03', 'silence'],
    ['57014', 'silence'],
    ['25006', 'silence'],
    ['53300', 'silence'],
    ['08006', 'silence'],
    ['58030', 'silence'],
    ['28P01', 'refusal'],
    ['3D000', 'refusal'],
    ['42501', 'refusal'],
    ['42P01', 'refusal'],
  ] as const)
    t.equal(databaseFailure(state), meaning, state);
  t.equal(databaseFailure(undefined), 'silence', 'a connection that was not made, or ended');
});

t.test('what may be committed though it failed', async (t) => {
  for (const state of [undefined, '57P01', '08006', '40003', '58030'])
    t.equal(mayBeDone(state), true, `${state}: the answer is lost`);
  for (const state of ['40001', '57014', '57P03', '25006', '42501'])
    t.equal(mayBeDone(state), false, `${state}: undone, says the server`);
});
