import { darkDrawingRules, palette } from './palette.js';

const colours = (ground: 'light' | 'dark'): string =>
  Object.entries(palette)
    .map(([name, colour]) => `--${name}:${colour[ground]}`)
    .join(';');

/** The page's style sheet, for light and dark, narrow screens and paper. It loads no font and no picture. */
export const pageStyle = `
:root{color-scheme:light dark;${colours('light')}}
@media screen and (prefers-color-scheme:dark){:root{${colours('dark')}}
${darkDrawingRules('.drawing')}}
*,::before,::after{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%;scroll-behavior:smooth}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--ground);color:var(--ink);overflow-wrap:break-word;
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
header,nav,main,footer{max-width:70rem;margin:0 auto;padding:0 clamp(1rem,4vw,2.5rem)}
header{padding-top:clamp(1.5rem,5vw,3.5rem)}
h1{margin:.2rem 0 .6rem;font-size:clamp(1.5rem,1.1rem + 2vw,2.25rem);line-height:1.2;font-weight:650;
letter-spacing:-.015em;text-wrap:balance}
h2{margin:0 0 .9rem;font-size:1.4rem;line-height:1.3;font-weight:650;letter-spacing:-.01em}
h3{margin:1.6rem 0 .4rem;font-size:1.05rem;line-height:1.4;font-weight:620}
h4{margin:0 0 .4rem;font-size:.9rem;font-weight:620}
p{margin:0 0 .9rem;max-width:46rem}
.kind,.small,.change,figcaption p,caption,.facts dt,.facts span,footer{color:var(--muted);font-size:.875rem}
.kind{margin:0}
.lead{font-size:1.125rem;line-height:1.5;max-width:50rem}
.small,.change{font-weight:400}
a{color:var(--blue);text-underline-offset:.18em}
:focus-visible{outline:3px solid var(--blue);outline-offset:3px;border-radius:2px}
nav{margin-top:1.6rem}
nav ul{display:flex;flex-wrap:wrap;gap:.1rem 1.4rem;margin:0;padding:.55rem 0;list-style:none;
border-block:1px solid var(--rule)}
nav a{display:inline-block;padding:.25rem 0;text-decoration:none}
nav a:hover{text-decoration:underline}
main>section{padding:2rem 0 1rem;border-bottom:1px solid var(--rule)}
main>section:last-child{border-bottom:0}
dl{margin:0}
dd{margin:0}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,8.8rem),1fr));gap:1.1rem 1.6rem;margin:1.6rem 0}
.facts div{border-top:2px solid var(--ink);padding-top:.45rem}
.facts dd{font-size:1.3rem;line-height:1.35;font-weight:620;font-variant-numeric:tabular-nums}
.facts span{display:block;font-weight:400}
.definitions{display:grid;gap:.45rem;margin:0 0 1.2rem}
.definitions div{display:grid;grid-template-columns:minmax(7.5rem,11rem) minmax(0,1fr);gap:.2rem 1.2rem}
.definitions dt{color:var(--muted)}
.definitions dd{overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.warnings{margin:1.4rem 0;padding:.8rem 1.1rem;border:1px solid var(--vermillion);border-left-width:5px;border-radius:3px}
.warnings h2{font-size:1rem;margin:0 0 .3rem}
.warnings ul{margin:0;padding-left:1.2rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:2rem 2.6rem;margin:0 0 1.4rem}
figure{margin:0;min-width:0}
figcaption h3{margin:0 0 .15rem}
figcaption p{margin:0 0 .5rem}
.drawing{display:block;width:100%;height:auto;max-width:31rem;margin:.3rem 0 .6rem}
.drawing text{font-family:inherit;font-variant-numeric:tabular-nums}
summary{width:fit-content;padding:.2rem 0;cursor:pointer;color:var(--muted);font-size:.875rem}
summary:hover{color:var(--ink)}
details .scroll{max-height:22rem}
.change{display:inline-block;min-width:3.4rem;text-align:right}
section>.scroll>table{min-width:min(100%,42rem)}
.scroll{overflow:auto;margin:.3rem 0 1.2rem}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums lining-nums}
caption{text-align:left;padding:0 0 .5rem}
caption>span{display:inline-block;max-width:min(46rem,calc(100vw - 2*clamp(1rem,4vw,2.5rem)))}
th,td{padding:.32rem .9rem .32rem 0;text-align:right;vertical-align:baseline;white-space:nowrap}
th:last-child,td:last-child{padding-right:.2rem}
thead th{font-weight:620;border-bottom:1.5px solid var(--ink);vertical-align:bottom}
thead th.group{border-bottom:1px solid var(--axis);text-align:center}
tbody th{font-weight:400}
tbody tr+tr>*,tbody+tbody tr:first-child>*{border-top:1px solid var(--rule)}
tr.group th{font-weight:620;padding-top:1rem;white-space:normal}
.words,tr.group th{text-align:left}
.windows{display:inline-block;min-width:7rem;max-width:13rem;white-space:normal}
tr.marked>*{font-weight:650}
tr.marked th:first-child{box-shadow:inset 3px 0 var(--blue);padding-left:.6rem}
.prompt h3 q{font-weight:400}
.samples{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr));gap:1rem 1.6rem}
.sample{min-width:0;border-top:1px solid var(--axis);padding-top:.6rem}
blockquote{margin:0 0 .4rem;white-space:pre-wrap;overflow-wrap:anywhere}
.sample p{margin:0}
.shared{text-decoration:underline dotted var(--axis) 1px;text-underline-offset:.25em}
pre{margin:0 0 1.2rem;padding:.9rem 1.1rem;background:var(--shade);border-radius:4px;white-space:pre-wrap;
overflow-wrap:anywhere;user-select:all}
code{font:.9em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
footer{padding-block:1.2rem 3rem}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media (max-width:36rem){.definitions div{grid-template-columns:minmax(0,1fr)}
th,td{padding-right:.65rem}
.facts{grid-template-columns:repeat(2,minmax(0,1fr))}
.facts dd{font-size:1.1rem}
.change{display:block;min-width:0}
.drawing text[font-size="11.5px"]{font-size:13.5px}}
@media print{@page{margin:15mm}
body{font-size:10pt}
header,main,footer{max-width:none;padding-inline:0}
nav,details{display:none}
main>section{padding:1.2rem 0 .4rem}
h2,h3,figcaption{break-after:avoid}
figure,.sample,.facts div,tr,pre,.warnings{break-inside:avoid}
.figures{grid-template-columns:1fr 1fr;gap:1rem 1.6rem}
.scroll{overflow:visible;max-height:none}
table{font-size:8pt}
th,td{padding-right:.5rem}
a{color:inherit}}
`;
