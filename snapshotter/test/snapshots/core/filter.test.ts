import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { type Filterable, parseFilters } from '../../../src/snapshots/core/filter.ts';

const one: Filterable = {
  name: 'k8s.io/3/sha256:ab',
  parent: 'sha256:cd',
  kind: 'committed',
  labels: { 'containerd.io/snapshot.ref': 'sha256:ab', team: 'a,b "c"', empty: '' },
};

t.test('what containerd asks after a layer was found', async (t) => {
  const ask = (...filters: string[]): boolean => parseFilters(filters)(one);
  t.ok(ask(), 'no filter: all');
  t.ok(ask('labels."containerd.io/snapshot.ref"==sha256:ab,parent=="sha256:cd"'));
  t.notOk(ask('labels."containerd.io/snapshot.ref"==sha256:ab,parent=="sha256:ce"'));
  t.ok(ask('name==x', 'kind==committed'), 'any of several');
  t.notOk(ask('name==x', 'kind==active'));
  t.ok(ask('labels.team'), 'is there');
  t.notOk(ask('labels.other'));
  t.ok(ask('labels.other!=x'));
  t.ok(ask('labels.empty==""'));
  t.notOk(ask('labels.other==""'), 'what is not there equals nothing');
  t.ok(ask('name~="^k8s[.]io/"'));
  t.notOk(ask('name~=^x'));
  t.notOk(ask('labels.other~=x'));
  t.ok(ask('labels.other~="^$"'), 'what is not there is matched as empty text');
  t.notOk(ask('name.first'), 'a name has no fields');
  t.notOk(ask('constructor'), 'not a property of JavaScript');
  t.notOk(ask('labels.constructor'));
  t.notOk(ask('size==1'), 'a field that is none');
  t.ok(ask(' name == "k8s.io/3/sha256:ab" , kind != view '));
});

t.test('what is no filter is refused', async (t) => {
  for (const text of ['==x', 'name==', 'name=x', 'labels."x', 'name==x,', 'name~="("', 'a b', 'name=="\\q"'])
    t.throws(() => parseFilters([text]), { code: 'REQUEST_INVALID' }, text);
  t.throws(() => parseFilters([`name==${'x'.repeat(20_000)}`]), { code: 'REQUEST_INVALID' });
});

t.test('any text is a filter or a refusal; any label is found by its value', async () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseFilters([text])(one);
      } catch (error) {
        if ((error as { code?: string }).code !== 'REQUEST_INVALID') throw error;
      }
    }),
  );
  const name = fc.string({ minLength: 1 });
  fc.assert(
    fc.property(name, fc.string(), fc.string(), (label, value, other) => {
      const filter = `labels.${JSON.stringify(label)}==${JSON.stringify(value)}`;
      const having = (text: string): Filterable => ({ ...one, labels: { [label]: text } });
      return (
        parseFilters([filter])(having(value)) && parseFilters([filter])(having(other)) === (other === value)
      );
    }),
  );
});
