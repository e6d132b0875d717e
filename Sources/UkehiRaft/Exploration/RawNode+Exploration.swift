// What a model checker needs of a node and nobody else: to try two futures of one peer, to tell
// whether two of its states are the same, and to see its whole log.

package import UkehiBase

extension RawNode {
    /// A second node in the same state, over a storage that holds the same.
    ///
    /// For exploring what the peer might do next. Two forks of one peer that both speak in one
    /// history break Raft: they vote twice.
    package borrowing func fork(storage: LogStorage) -> RawNode {
        RawNode(copyOf: self, storage: storage)
    }

    /// Every entry there is, durable or not.
    package borrowing func allEntries() -> [Entry] {
        var entries: [Entry] = []
        let stored = min(core.log.bufferStart, core.log.storage.lastIndex + 1)
        if core.log.firstIndex < stored {
            entries =
                (try? core.log.storage.entries(
                    from: core.log.firstIndex, to: stored, maxBytes: .max)) ?? []
        }
        return entries + core.log.buffer[core.log.head...]
    }

    /// Gives `emit` the words that decide what this node will do: two nodes with equal words and equal
    /// storages do the same for ever.
    ///
    /// Left out is what a world without ticks, snapshots, membership changes, reads and transfers never
    /// looks at: clocks and jitter, who was heard from lately, the windows' contents (their bounds are
    /// out of reach in a small world), and what is only kept for speed.
    ///
    /// - Parameters:
    ///   - peers: Every peer of the group, in the order of the names that `name` gives.
    ///   - name: What a peer is called here, so that worlds that differ in names alone look the same.
    package borrowing func describe(
        peers: [PeerID], name: (PeerID) -> UInt64, to emit: (UInt64) -> Void
    ) {
        emit(core.term.rawValue)
        emit(name(core.vote))
        emit(name(core.leader))
        emit(UInt64(core.role.rawValue) | (core.hasNewTermOrVote ? 1 << 8 : 0))
        emit(core.log.committed.rawValue)
        emit(core.log.applying.rawValue)
        emit(core.log.applied.rawValue)
        emit(core.log.unstableStart.rawValue)
        emit(core.log.inProgressEnd.rawValue)
        emit(core.log.applied < core.campaignBarrier ? core.campaignBarrier.rawValue : 0)
        // What the last hard state handed out said: the next one says only what is new.
        emit(previousCommit.rawValue)
        let entries = allEntries()
        emit(UInt64(entries.count))
        for entry in entries { entry.describe(to: emit) }
        for peer in peers {
            let vote = core.heldOffice?.votes.first { $0.peer == peer }
            emit(vote.map { $0.granted ? 2 : 1 } ?? 0)
            guard let slot = core.tracker.slot(of: peer) else { continue }
            let progress = core.tracker.peers[slot]
            emit(progress.match.rawValue)
            emit(progress.next.rawValue)
            emit(progress.sentCommit.rawValue)
            emit(
                UInt64(progress.state.rawValue) | (progress.appendPaused ? 1 << 8 : 0)
                    | (progress.inflights.isFull ? 1 << 9 : 0))
        }
    }
}

extension Entry {
    /// Gives `emit` the words that tell this entry from others.
    package func describe(to emit: (UInt64) -> Void) {
        emit(term.rawValue)
        emit(UInt64(kind.rawValue) | UInt64(data.count) << 8)
        for byte in data.array { emit(UInt64(byte)) }
    }
}
