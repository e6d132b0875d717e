// A log in memory, for tests, simulations and embedders whose state is elsewhere.

public import UkehiBase

/// A log and a snapshot in memory.
///
/// Invariant: `entries[i].index == snapshot's or compacted index + 1 + i`.
open class MemoryLogStorage: LogStorage {
    private var hardState: HardState
    private var latest: Snapshot
    /// The entry before the first one.
    private var base: (index: LogIndex, term: Term)
    private var stored: [Entry] = []

    /// An empty log of a group with `configuration`.
    public init(configuration: ConfigurationState = ConfigurationState()) {
        hardState = .empty
        latest = Snapshot(index: .zero, term: .zero, configuration: configuration)
        base = (.zero, .zero)
        super.init()
    }

    open override func initialState() -> (
        hardState: HardState, configuration: ConfigurationState
    ) { (hardState, latest.configuration) }

    open override var firstIndex: LogIndex { base.index + 1 }
    open override var lastIndex: LogIndex { base.index + UInt64(stored.count) }

    open override func term(at index: LogIndex) throws(LogStorageError) -> Term {
        if index < base.index { throw .compacted }
        if index == base.index { return base.term }
        guard index <= lastIndex else { throw .unavailable }
        return stored[Int(index - base.index) - 1].term
    }

    open override func entries(
        from: LogIndex, to: LogIndex, maxBytes: UInt64
    ) throws(LogStorageError) -> [Entry] {
        if from <= base.index { throw .compacted }
        guard from < to, to <= lastIndex + 1 else { throw .unavailable }
        let start = Int(from - base.index) - 1
        var end = start + Int(to - from)
        if maxBytes != .max {
            var bytes: UInt64 = 0
            for place in start..<end {
                bytes += UInt64(stored[place].recordBytes)
                if bytes > maxBytes, place > start {
                    end = place
                    break
                }
            }
        }
        return Array(stored[start..<end])
    }

    open override func snapshot() throws(LogStorageError) -> Snapshot { latest }

    /// Every entry there is.
    public var allEntries: [Entry] { stored }

    // MARK: Writing

    public func setHardState(_ state: HardState) { hardState = state }

    /// Adds entries, replacing what is there from the first one's index on; compacted ones are skipped.
    ///
    /// - Throws: ``LogStorageError/unavailable`` when they leave a gap; nothing was added.
    public func append(_ entries: [Entry]) throws(LogStorageError) {
        guard let first = entries.first, let last = entries.last else { return }
        guard last.index > base.index else { return }
        guard first.index <= lastIndex + 1 else { throw .unavailable }
        if first.index == lastIndex + 1 {
            stored.append(contentsOf: entries)
            return
        }
        let skipped = first.index <= base.index ? Int(base.index + 1 - first.index) : 0
        let start = entries[skipped].index
        stored.removeSubrange(Int(start - base.index) - 1..<stored.count)
        stored.append(contentsOf: entries[skipped...])
    }

    /// Replaces everything by a snapshot.
    ///
    /// - Throws: ``LogStorageError/compacted`` when it is no newer than the one there is.
    public func apply(_ snapshot: Snapshot) throws(LogStorageError) {
        guard latest.index == .zero || snapshot.index > latest.index else { throw .compacted }
        latest = snapshot
        base = (snapshot.index, snapshot.term)
        stored.removeAll()
    }

    /// Makes the snapshot that ``snapshot()`` gives, without compacting.
    public func setSnapshot(_ snapshot: Snapshot) { latest = snapshot }

    /// Forgets entries up to and including `index`; its term stays known.
    ///
    /// - Throws: ``LogStorageError/compacted`` or ``LogStorageError/unavailable`` when there is no such
    ///   entry.
    public func compact(to index: LogIndex) throws(LogStorageError) {
        guard index > base.index else { throw .compacted }
        let term = try term(at: index)
        stored.removeFirst(Int(index - base.index))
        base = (index, term)
    }
}
