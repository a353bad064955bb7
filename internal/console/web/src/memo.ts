import { type ComponentChildren, type FunctionComponent, type VNode, createElement } from "preact";
import { useRef } from "preact/hooks";

/** A component that is rendered again only where a property is another. */
export function memo<P extends object>(component: (props: P) => ComponentChildren): FunctionComponent<P> {
  return function Memo(props: P) {
    const last = useRef<{ props: P; tree: VNode } | null>(null);
    const same = last.current && Object.keys(props).every((k) => props[k as keyof P] === last.current!.props[k as keyof P]);
    if (!same) last.current = { props, tree: createElement(component as FunctionComponent<P>, props) as VNode };
    return last.current!.tree;
  };
}
