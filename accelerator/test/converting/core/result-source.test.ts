import { CONVERSION_RULE, type ConversionRule } from '@sepia/cluster/conversion-rule';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { resultName } from '../../../src/converting/core/result-name.ts';
import { sourceOfResult } from '../../../src/converting/core/result-source.ts';

const rule = (keys: object): ConversionRule =>
  CONVERSION_RULE.parse({ name: 'r', from: 'u', repositories: ['**'], ...keys });

t.test('the name of a result leads back to its source', async (t) => {
  const part = fc.stringMatching(/^[a-z0-9]{1,6}$/);
  const repository = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
  const rules = fc
    .record({
      'tag-suffix': fc.constantFrom('', '-estargz', '.lazy'),
      repository: fc.constantFrom(
        '{repository}',
        'lazy/{repository}',
        '{repository}/lazy',
        'a/{repository}-x',
      ),
      result: fc.constantFrom('tag', 'image-index'),
    })
    .map(rule);
  fc.assert(
    fc.property(rules, repository, fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,20}$/), (one, source, tag) => {
      const name = resultName(one, source, tag);
      if ('wrong' in name) return;
      t.strictSame(sourceOfResult(one, name.repository, name.tag), { repository: source, tag });
    }),
  );
});

t.test('names that no result of the rule has', async (t) => {
  const here = rule({});
  t.equal(sourceOfResult(here, 'team/app', '1'), undefined, 'no suffix');
  t.equal(sourceOfResult(here, 'team/app', '-estargz'), undefined, 'nothing before the suffix');
  t.equal(sourceOfResult(rule({ repository: 'lazy' }), 'lazy', '1-estargz'), undefined, 'one place for many');
  t.equal(sourceOfResult(rule({ repository: 'lazy/{repository}' }), 'team/app', '1-estargz'), undefined);
  t.equal(sourceOfResult(rule({ result: 'referrer' }), 'team/app', '1-estargz'), undefined, 'has no tag');
  t.equal(sourceOfResult(rule({ to: 'index' }), 'team/app', '1-estargz'), undefined, 'is no image');
  t.equal(
    sourceOfResult(rule({ tags: ['v*'] }), 'team/app', '1-estargz'),
    undefined,
    'the tag is not the rule’s',
  );
  t.equal(sourceOfResult(rule({ repositories: ['x/*'] }), 'team/app', '1-estargz'), undefined);
});
