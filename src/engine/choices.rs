//! Answers that are one of several: scored in one pass, not generated.
//!
//! The alternatives, as tokens with the end behind each, make a tree. Where a node has one child
//! only, nothing is to be decided and nothing is computed. Before the tree stands the prompt,
//! whose last token decides the first step; every deeper node at which something is decided is
//! computed in the same pass, once for all alternatives through it:
//!
//! ```text
//!  prompt ─┬─ main ─ tenance ─ ■          nothing to compute: the first token decides
//!          ├─ qua ─ lity ─┬─ ■            "quality" is also the beginning of another: its two
//!          │              └─ control ─ ■  tokens are computed, and decide the rest
//!          └─ log ─ istics ─ ■
//! ```
//!
//! The answer is the one that decoding step by step would give; the probabilities of the others
//! come with it.

use super::guess::Weighed;
use super::protocol::FreeChoice;

/// Alternatives that are scored, and what that takes.
#[derive(Debug)]
pub(super) struct Ballot {
    /// The alternatives as tokens.
    pub tree: Tree,
    /// The alternatives as text.
    pub labels: Vec<String>,
    /// What is to be computed after the prompt.
    pub twigs: Vec<Twig>,
    /// Sequences that it takes beside the prompt's own.
    pub lines: usize,
}

impl Ballot {
    /// Of these alternatives, with the tokens of each.
    pub(super) fn new(labels: &[String], tokens: impl Fn(&str) -> Vec<u32>) -> Self {
        let paths: Vec<_> = labels.iter().map(|label| tokens(label)).collect();
        let tree = Tree::new(&paths);
        Self {
            twigs: tree.twigs(),
            lines: tree.lines().saturating_sub(1),
            labels: labels.to_vec(),
            tree,
        }
    }
}

/// Alternatives as a tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Nodes that are computed, parents first, without the root.
    computed: Vec<usize>,
    /// For each sequence, the last of its computed nodes.
    lines: Vec<usize>,
    labels: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    token: u32,
    depth: u32,
    parent: usize,
    children: Vec<usize>,
    /// The alternative that may end here.
    ends: Option<usize>,
}

/// A node that is to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Twig {
    /// Its token.
    pub token: u32,
    /// Tokens of the answer before it.
    pub depth: u32,
    /// Which of the lines go through it.
    pub lines: Vec<usize>,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// Which alternative.
    pub label: usize,
    /// Its tokens, with the end.
    pub tokens: u32,
    /// The decisions on the way to it.
    pub free: Vec<FreeChoice>,
    /// Of each alternative, the natural logarithm of its probability.
    pub logprobs: Vec<f32>,
}

impl Tree {
    /// Of these alternatives, each as its tokens. Two that are the same are one.
    pub(super) fn new(paths: &[Vec<u32>]) -> Self {
        let root = Node {
            token: 0,
            depth: 0,
            parent: 0,
            children: Vec::new(),
            ends: None,
        };
        let mut tree = Self {
            nodes: vec![root],
            computed: Vec::new(),
            lines: Vec::new(),
            labels: paths.len(),
        };
        for (label, path) in paths.iter().enumerate() {
            let last = path.iter().fold(0, |at, token| tree.child(at, *token));
            tree.nodes[last].ends.get_or_insert(label);
        }
        tree.find_computed();
        tree
    }

    fn child(&mut self, at: usize, token: u32) -> usize {
        let same = |child: &&usize| self.nodes[**child].token == token;
        if let Some(child) = self.nodes[at].children.iter().find(same) {
            return *child;
        }
        let node = Node {
            token,
            depth: self.nodes[at].depth + 1,
            parent: at,
            children: Vec::new(),
            ends: None,
        };
        self.nodes.push(node);
        let new = self.nodes.len() - 1;
        self.nodes[at].children.push(new);
        new
    }

    /// Nodes that decide, and all between them and the root. Parents have smaller numbers.
    fn find_computed(&mut self) {
        let mut wanted = vec![false; self.nodes.len()];
        for at in (1..self.nodes.len()).rev() {
            wanted[at] |= self.decides(at);
            if wanted[at] {
                wanted[self.nodes[at].parent] = true;
            }
        }
        self.computed = (1..self.nodes.len()).filter(|at| wanted[*at]).collect();
        let is_last = |at: &usize| self.nodes[*at].children.iter().all(|child| !wanted[*child]);
        self.lines = self.computed.iter().copied().filter(is_last).collect();
    }

    fn decides(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.children.len() + usize::from(node.ends.is_some()) > 1
    }

    /// Sequences that it needs, the prompt's own among them.
    fn lines(&self) -> usize {
        self.lines.len()
    }

    /// What is to be computed after the prompt, parents first.
    fn twigs(&self) -> Vec<Twig> {
        let twig = |at: &usize| {
            let node = &self.nodes[*at];
            Twig {
                token: node.token,
                depth: node.depth - 1,
                lines: (0..self.lines.len())
                    .filter(|line| self.is_on_line(*at, self.lines[*line]))
                    .collect(),
            }
        };
        self.computed.iter().map(twig).collect()
    }

    fn is_on_line(&self, at: usize, mut last: usize) -> bool {
        while last > at {
            last = self.nodes[last].parent;
        }
        last == at
    }

    /// Decides; `weighed` tells the token and its probability for the prompt (none) and for each
    /// twig, by its place in [`Tree::twigs`].
    pub(super) fn judge<'l>(
        &self,
        end: u32,
        weighed: impl Fn(Option<usize>) -> Weighed<'l>,
    ) -> Verdict {
        let mut logprobs = vec![f32::NEG_INFINITY; self.labels];
        let mut reached = vec![0.0_f32; self.nodes.len()];
        let mut best = vec![None; self.nodes.len()];
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            if self.decides(at) {
                let twig = self.computed.iter().position(|it| *it == at);
                let weighed = weighed(twig);
                for child in &node.children {
                    reached[*child] = reached[at] + weighed.logprob(self.nodes[*child].token);
                }
                best[at] = Some(self.step(at, end, &weighed));
                if let Some(label) = node.ends {
                    logprobs[label] = reached[at] + weighed.logprob(end);
                }
            } else {
                for child in &node.children {
                    reached[*child] = reached[at];
                }
                if let Some(label) = node.ends {
                    logprobs[label] = reached[at];
                }
            }
        }
        self.walk(&best, logprobs)
    }

    /// The likeliest way on from a node that decides; none is the end.
    fn step(&self, at: usize, end: u32, weighed: &Weighed<'_>) -> (Option<usize>, FreeChoice) {
        let likelier = |best: (u32, _), way: (u32, _)| {
            if weighed.logit(way.0) > weighed.logit(best.0) {
                way
            } else {
                best
            }
        };
        let (token, way) = self
            .ways(at, end)
            .into_iter()
            .reduce(likelier)
            .expect("a deciding node has two ways");
        (way, weighed.free(token))
    }

    /// How it may go on from a node, and to which; none is the end.
    fn ways(&self, at: usize, end: u32) -> Vec<(u32, Option<usize>)> {
        let node = &self.nodes[at];
        let on = node.children.iter();
        let on = on.map(|child| (self.nodes[*child].token, Some(*child)));
        let stop = node.ends.map(|_| (end, None));
        let mut ways: Vec<_> = on.chain(stop).collect();
        ways.sort_unstable_by_key(|(token, _)| *token);
        ways
    }

    fn walk(&self, best: &[Option<(Option<usize>, FreeChoice)>], logprobs: Vec<f32>) -> Verdict {
        let mut free = Vec::new();
        let mut at = 0;
        let label = loop {
            let node = &self.nodes[at];
            let way = match best[at] {
                Some((way, choice)) => {
                    free.push(choice);
                    way
                }
                None => node.children.first().copied(),
            };
            match (way, node.ends) {
                (Some(child), _) => at = child,
                (None, Some(label)) => break label,
                (None, None) => unreachable!("a leaf ends an alternative"),
            }
        };
        Verdict {
            label,
            tokens: self.nodes[at].depth + 1,
            free,
            logprobs,
        }
    }
}

/// Alternatives that are generated, token by token: those that are too many to be scored in one
/// pass, and those of whom it is to be shown that scoring changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Walk {
    tree: Tree,
    end: u32,
    at: usize,
}

impl Walk {
    /// From the first token on.
    pub(super) fn new(tree: Tree, end: u32) -> Self {
        Self { tree, end, at: 0 }
    }

    /// The tokens that may follow, in order.
    pub(super) fn allowed(&self) -> Vec<u32> {
        let ways = self.tree.ways(self.at, self.end);
        ways.into_iter().map(|(token, _)| token).collect()
    }

    /// The token that follows in any case.
    pub(super) fn forced(&self) -> Vec<u32> {
        let allowed = self.allowed();
        if allowed.len() == 1 {
            allowed
        } else {
            Vec::new()
        }
    }

    /// A token that was allowed follows.
    pub(super) fn advance(&mut self, token: u32) {
        let mut ways = self.tree.ways(self.at, self.end).into_iter();
        if let Some((_, Some(next))) = ways.find(|(way, _)| *way == token) {
            self.at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(of: &[(usize, f32)]) -> Vec<f32> {
        let mut logits = vec![-30.0; 20];
        for (token, logit) in of {
            logits[*token] = *logit;
        }
        logits
    }

    #[test]
    fn alternatives_with_different_first_tokens_need_no_pass_of_their_own() {
        let tree = Tree::new(&[vec![1, 2, 3], vec![4], vec![5, 6]]);
        assert!(tree.twigs().is_empty());
        let root = logits(&[(1, 0.0), (4, 1.0), (5, 0.5), (9, 7.0)]);
        let verdict = tree.judge(19, |_| Weighed::of(&root));
        assert_eq!(
            (verdict.label, verdict.tokens, verdict.free.len()),
            (1, 2, 1)
        );
        assert!(verdict.logprobs[1] > verdict.logprobs[2]);
        assert!(
            verdict.free[0].logprob < -5.0,
            "the model would have said something else"
        );
    }

    #[test]
    fn a_shared_beginning_is_computed_once_and_decides_by_its_own_logits() {
        let tree = Tree::new(&[vec![1, 2], vec![1, 2, 3], vec![1, 4], vec![5]]);
        let twigs = tree.twigs();
        assert_eq!(twigs.len(), 2);
        assert_eq!((twigs[0].token, twigs[0].depth), (1, 0));
        assert_eq!((twigs[1].token, twigs[1].depth), (2, 1));
        assert_eq!(tree.lines(), 1);
        let rows = [
            logits(&[(1, 2.0), (5, 0.0)]),
            logits(&[(2, 1.0), (4, 0.0)]),
            logits(&[(3, 0.0), (19, 1.0)]),
        ];
        let verdict = tree.judge(19, |twig| Weighed::of(&rows[twig.map_or(0, |it| it + 1)]));
        assert_eq!(
            (verdict.label, verdict.tokens, verdict.free.len()),
            (0, 3, 3)
        );
        let sum: f32 = verdict.free.iter().map(|free| free.logprob).sum();
        assert!((sum - verdict.logprobs[0]).abs() < 1e-6);
        let total: f32 = verdict.logprobs.iter().map(|it| it.exp()).sum();
        assert!((total - 1.0).abs() < 1e-3, "{total}");
    }

    #[test]
    fn a_walk_leads_to_every_alternative_and_nowhere_else() {
        let paths = [vec![1, 2], vec![1, 2, 3], vec![5]];
        for path in &paths {
            let mut walk = Walk::new(Tree::new(&paths), 19);
            for token in path {
                assert!(walk.allowed().contains(token));
                walk.advance(*token);
            }
            assert!(walk.allowed().contains(&19));
        }
        let mut walk = Walk::new(Tree::new(&paths), 19);
        assert_eq!(walk.allowed(), [1, 5]);
        walk.advance(1);
        assert_eq!(walk.allowed(), [2]);
    }

    #[test]
    fn two_branches_that_decide_later_are_two_lines() {
        let tree = Tree::new(&[vec![1, 2], vec![1, 3], vec![4, 2], vec![4, 3]]);
        assert_eq!(tree.lines(), 2);
        let lines: Vec<_> = tree.twigs().into_iter().map(|twig| twig.lines).collect();
        assert_eq!(lines, [vec![0], vec![1]]);
    }
}
