import t from 'tap';
import { documentOf, newIndex, OPTIONS_ANNOTATION } from '../../src/convert/documents.ts';
import { optionsMark } from '../../src/convert/options-mark.ts';

t.test('a result says of its options what is not usual, whatever their order', async (t) => {
  t.equal(optionsMark({ format: 'estargz' }), undefined);
  t.equal(optionsMark({ format: 'estargz', level: 6, form: 'tag' }), undefined);
  t.equal(optionsMark({ format: 'nydus', level: 3, form: 'referrer' }), undefined);
  t.equal(
    optionsMark({ format: 'nydus', level: 6, platforms: ['linux/b', 'linux/a'], form: 'image-index' }),
    'level=6 platforms=linux/a,linux/b form=image-index',
  );
});

t.test('the options stand in the annotations of a result', async (t) => {
  const source = documentOf({ schemaVersion: 2, manifests: [] }, 'application/vnd.oci.image.index.v1+json');
  const marks = { format: 'estargz', options: 'level=9', refersToSource: false };
  const made = JSON.parse(newIndex(source, {}, [], marks).bytes.toString()) as { annotations: object };
  t.match(made.annotations, { [OPTIONS_ANNOTATION]: 'level=9' });
});
