import t from 'tap';
import { OwnNotes } from '../../../src/table/postgres/own-notes.ts';

t.test('own notes say nothing new, but of a write whose answer was lost, once', async (t) => {
  const notes = new OwnNotes();
  const [first, second] = [notes.next(), notes.next()];
  t.not(first, second);
  t.ok(notes.isTold(first));
  t.notOk(notes.isTold(new OwnNotes().next()), "another's");
  notes.doubt(second);
  t.notOk(notes.isTold(second));
  t.ok(notes.isTold(second));
});

t.test('writes in doubt are remembered up to a limit, the newest stay', async (t) => {
  const notes = new OwnNotes();
  const ids = Array.from({ length: 1_001 }, () => notes.next());
  for (const id of ids) notes.doubt(id);
  t.ok(notes.isTold(ids[0]!));
  t.notOk(notes.isTold(ids[1]!));
  t.notOk(notes.isTold(ids.at(-1)!));
});
