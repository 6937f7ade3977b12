import t from 'tap';
import { whatToDo } from '../../src/up/ports.ts';

t.test('why a port cannot be bound, and what helps', async (t) => {
  t.match(whatToDo('EADDRINUSE'), /^is taken by another process; stop that process or .*--ports-from$/);
  t.match(whatToDo('EACCES'), /^needs more rights; choose ports above 1023 with --ports-from$/);
  t.match(whatToDo('EADDRNOTAVAIL'), /^cannot be bound \(EADDRNOTAVAIL\); choose others/);
});
