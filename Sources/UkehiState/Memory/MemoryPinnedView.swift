// A view of a range in memory that stands still while the store goes on.
//
//   visited already │ still to visit
//   ────────────────┼──────────────────▶ keys
//                   ▲ next
//   a write here: nothing to do │ a write here: the pair as it was is kept aside, once
//
// The store is locked for a page at a time. Memory: what is overwritten ahead of the scan while it
// runs, and a page.

import UkehiBase

/// What a pinned view keeps aside; the store tells it of every write before it is made.
final class PinnedRange {
    let space: StoreSpace
    private let upper: Bytes
    /// Where the scan goes on; nil: it is over.
    private(set) var next: Bytes?
    /// Pairs as they were, of keys that were written since; ``absent``: there was none.
    private let saved = RadixTree()

    /// A version that no key has.
    private static let absent = UInt64.max

    init(_ space: StoreSpace, _ lower: Bytes, _ upper: Bytes) {
        self.space = space
        self.upper = upper
        next = lower
    }

    private func isAhead(_ key: UnsafeRawBufferPointer) -> Bool {
        guard let next, next.withUnsafeBytes({ order($0, key) }) <= 0 else { return false }
        return upper.isEmpty || upper.withUnsafeBytes { order(key, $0) } < 0
    }

    /// The key is about to be written or removed.
    func willChange(_ key: UnsafeRawBufferPointer, in tree: RadixTree) {
        guard isAhead(key), saved.find(key) == nil else { return }
        guard let leaf = tree.find(key) else {
            return saved.put(
                key, UnsafeRawBufferPointer(start: nil, count: 0), version: Self.absent,
                expiresAt: 0)
        }
        saved.put(key, leaf.value, version: leaf.version, expiresAt: leaf.expiresAt)
    }

    /// A range is about to be removed.
    func willRemove(
        _ lower: UnsafeRawBufferPointer, _ upper: UnsafeRawBufferPointer, in tree: RadixTree
    ) {
        guard let next else { return }
        let isBehind = next.withUnsafeBytes { order(lower, $0) } < 0
        next.withUnsafeBytes { next in
            var cursor = RadixCursor(tree, from: isBehind ? next : lower)
            while let leaf = cursor.next() {
                guard upper.isEmpty || order(leaf.key, upper) < 0, isAhead(leaf.key) else { return }
                willChange(leaf.key, in: tree)
            }
        }
    }

    /// Copies pairs from where the scan stands, up to about so many bytes, and moves on. With the store
    /// locked.
    func turn(_ page: inout PinnedPage, over tree: RadixTree) {
        page.removeAll()
        guard let from = next else { return }
        from.withUnsafeBytes { fill(&page, over: tree, from: $0) }
        guard page.isFull, let last = page.lastKey else {
            next = nil
            return saved.removeAll()
        }
        // The least key behind the last one.
        next = Bytes(last.array + [0])
        next?.withUnsafeBytes {
            saved.removeRange(UnsafeRawBufferPointer(start: nil, count: 0), $0)
        }
    }

    private func fill(
        _ page: inout PinnedPage, over tree: RadixTree, from: UnsafeRawBufferPointer
    ) {
        var live = RadixCursor(tree, from: from)
        var old = RadixCursor(saved, from: from)
        var (new, kept) = (live.next(), old.next())
        func isInside(_ leaf: Leaf) -> Bool {
            upper.isEmpty || upper.withUnsafeBytes { order(leaf.key, $0) } < 0
        }
        while !page.isFull {
            // What was kept goes before what is there now under the same key.
            let side = kept.map { kept in new.map { order(kept.key, $0.key) } ?? -1 } ?? 1
            if let leaf = kept, side <= 0 {
                if leaf.version != Self.absent { page.append(leaf) }
                if side == 0 { new = live.next() }
                kept = old.next()
            } else {
                guard let leaf = new, isInside(leaf) else { return }
                page.append(leaf)
                new = live.next()
            }
        }
    }
}

/// Pairs of one page, copied.
struct PinnedPage {
    static let targetBytes = 64 << 10
    private var text: [UInt8] = []
    private var pairs: [(key: Int, value: Int, end: Int, version: UInt64, expiresAt: UInt64)] = []

    var isFull: Bool { text.count >= Self.targetBytes }
    var lastKey: Bytes? { pairs.last.map { Bytes(Array(text[$0.key..<$0.value])) } }

    mutating func removeAll() {
        text.removeAll(keepingCapacity: true)
        pairs.removeAll(keepingCapacity: true)
    }

    mutating func append(_ leaf: Leaf) {
        let key = text.count
        text.append(contentsOf: leaf.key)
        let value = text.count
        text.append(contentsOf: leaf.value)
        pairs.append((key, value, text.count, leaf.version, leaf.expiresAt))
    }

    /// False as soon as `visit` says so.
    func visit(_ visit: (StoredEntry) -> Bool) -> Bool {
        text.withUnsafeBytes { text in
            for pair in pairs {
                let entry = StoredEntry(
                    key: UnsafeRawBufferPointer(rebasing: text[pair.key..<pair.value]),
                    value: UnsafeRawBufferPointer(rebasing: text[pair.value..<pair.end]),
                    version: pair.version, expiresAt: pair.expiresAt)
                guard visit(entry) else { return false }
            }
            return true
        }
    }
}
