import t from 'tap';
import { databaseFailure } from '../../../../src/table/postgres/core/database-failure.ts';

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
