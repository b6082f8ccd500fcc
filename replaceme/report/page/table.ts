import { type Content, html, type Markup } from './html.js';

interface TableColumn {
  readonly title: Content;
  /** Aligns numbers to the right. */
  readonly numeric?: boolean;
  /** A title above this column and the next ones, `columns` in all. */
  readonly group?: { readonly title: Content; readonly columns: number };
}

/** Rows under a title. */
interface TableGroup {
  readonly title?: Content;
  readonly rows: readonly (readonly Content[])[];
}

interface TableOptions {
  /** Unique in the page. */
  readonly id: string;
  readonly caption: Content;
  /** The first column has the rows' names. */
  readonly columns: readonly TableColumn[];
  readonly groups: readonly TableGroup[];
  /** Highlighted rows, counted over all groups. */
  readonly marked?: ReadonlySet<number>;
}

const words = (column: TableColumn | undefined) => !column?.numeric && html` class="words"`;

function head(columns: readonly TableColumn[]): Markup {
  const titles = html`<tr>${columns.map(column => html`<th scope="col"${words(column)}>${column.title}</th>`)}</tr>`;
  if (!columns.some(({ group }) => group)) return titles;
  const above: Markup[] = [];
  for (let c = 0; c < columns.length; ) {
    const group = columns[c]!.group;
    above.push(
      group
        ? html`<th scope="colgroup" colspan="${group.columns}" class="group">${group.title}</th>`
        : html`<td></td>`,
    );
    c += group?.columns ?? 1;
  }
  return html`<tr>${above}</tr>${titles}`;
}

/** A table with a caption, in a frame that scrolls sideways on narrow screens. */
export function dataTable({ id, caption, columns, groups, marked }: TableOptions): Markup {
  let index = 0;
  const body = groups.map(({ title, rows }) => {
    const titled =
      title !== undefined &&
      html`<tr class="group"><th scope="rowgroup" colspan="${columns.length}">${title}</th></tr>`;
    const lines = rows.map(([name, ...cells]) => {
      const mark = marked?.has(index++) && html` class="marked"`;
      const data = cells.map((cell, c) => html`<td${words(columns[c + 1])}>${cell}</td>`);
      return html`<tr${mark}><th scope="row"${words(columns[0])}>${name}</th>${data}</tr>\n`;
    });
    return html`<tbody>${titled}${lines}</tbody>`;
  });
  return html`<div class="scroll" tabindex="0" role="group" aria-labelledby="${id}"><table>
<caption id="${id}"><span>${caption}</span></caption>
<thead>${head(columns)}</thead>
${body}</table></div>
`;
}
