import t from 'tap';
import { resultRepository, tagSuffix } from '../src/conversion-rule.ts';
import { parseClusterDocument } from '../src/load-document.ts';

function parse(...conversions: object[]): ReturnType<typeof parseClusterDocument> {
  const document = { version: 1, members: [], upstreams: [{ name: 'local', mode: 'none' }], conversions };
  return parseClusterDocument(JSON.stringify(document), 'doc');
}

t.test('rules have defaults', async (t) => {
  t.match(parse({ name: 'all', from: 'local', repositories: ['**'] }).conversions, [
    {
      to: 'estargz',
      result: 'tag',
      repository: '{repository}',
      'delete-with-source': false,
    },
  ]);
  t.equal(tagSuffix({ to: 'estargz' }), '-estargz');
  t.equal(tagSuffix({ to: 'zstdchunked' }), '-zstdchunked');
  t.equal(tagSuffix({ to: 'zstdchunked', 'tag-suffix': '' }), '');
  t.equal(resultRepository({ repository: 'lazy/{repository}' }, 'team/app'), 'lazy/team/app');
});

t.test('what makes no sense is refused by its key', async (t) => {
  const rule = { name: 'all', from: 'local', repositories: ['**'] };
  const cases: [RegExp, object[]][] = [
    [/conversions\.0\.from.*no upstream/, [{ ...rule, from: 'nowhere' }]],
    [/conversions\.1\.name.*twice/, [rule, rule]],
    [/conversions\.0\.tag-suffix.*replace its source/, [{ ...rule, 'tag-suffix': '' }]],
    [/conversions\.0\.tag-suffix/, [{ ...rule, 'tag-suffix': '/x' }]],
    [/conversions\.0\.repository/, [{ ...rule, repository: 'Upper/{repository}' }]],
    [/conversions\.0\.platforms/, [{ ...rule, platforms: ['amd64'] }]],
    [/conversions\.0\.level.*0 to 9/, [{ ...rule, level: 10 }]],
    [/conversions\.0\.level.*1 to 19/, [{ ...rule, to: 'zstdchunked', level: 0 }]],
    [/conversions\.0\.level.*levels of nydus/, [{ ...rule, to: 'nydus', level: 0 }]],
    [/conversions\.0\.to/, [{ ...rule, to: 'squashfs' }]],
    [/conversions\.0\.result/, [{ ...rule, result: 'nowhere' }]],
    [
      /conversions\.0\.repository.*beside its subject/,
      [{ ...rule, result: 'referrer', repository: 'lazy/{repository}' }],
    ],
  ];
  for (const [message, rules] of cases) t.throws(() => parse(...rules), { code: 'CONFIG_INVALID', message });
});
