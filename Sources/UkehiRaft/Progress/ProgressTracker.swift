// The peers of a group as its leader tracks them.

import UkehiBase

/// One ``Progress`` per member, in order of id. Empty on a peer that does not lead, which keeps
/// idle groups small: it is built anew at each election from the configuration alone.
struct ProgressTracker: Sendable {
    var peers: [Progress] = []

    /// The place of a member in `peers`.
    func slot(of id: PeerID) -> Int? {
        for place in peers.indices where peers[place].id == id { return place }
        return nil
    }

    /// Starts over for a new leader: nobody is known to match but the leader itself.
    mutating func start(
        _ configuration: Configuration, leader: PeerID, lastIndex: LogIndex, window: Inflights
    ) {
        peers.removeAll(keepingCapacity: true)
        for id in configuration.members.ids {
            peers.append(
                Progress(
                    id: id, match: id == leader ? lastIndex : .zero, next: lastIndex + 1,
                    inflights: window,
                    isLearner: configuration.learners.contains(id), recentActive: false))
        }
    }

    /// Follows a change of configuration: keeps who stays, drops who left, adds who is new as a
    /// probe, and who is `restarting` too. A new peer counts as heard from, so that a quorum check can't
    /// fail on it at once.
    mutating func follow(
        _ configuration: Configuration, restarting: PeerSet = PeerSet(), lastIndex: LogIndex,
        window: Inflights
    ) {
        let members = configuration.members
        peers.removeAll { !members.contains($0.id) || restarting.contains($0.id) }
        for (place, id) in members.ids.enumerated() {
            let isLearner = configuration.learners.contains(id)
            if place < peers.count, peers[place].id == id {
                peers[place].isLearner = isLearner
            } else {
                peers.insert(
                    Progress(
                        id: id, match: .zero, next: max(lastIndex, LogIndex(1)),
                        inflights: window,
                        isLearner: isLearner, recentActive: true),
                    at: place)
            }
        }
    }

    /// The highest index that the configuration's quorum holds.
    func committed(_ configuration: Configuration) -> LogIndex {
        Quorum.committedIndex(
            incoming: configuration.voters, outgoing: configuration.outgoing,
            acknowledged: { id in
                for peer in peers where peer.id == id { return peer.match }
                return nil
            })
    }

    /// Whether a quorum was heard from since the last check.
    func isQuorumActive(_ configuration: Configuration) -> Bool {
        Quorum.result(incoming: configuration.voters, outgoing: configuration.outgoing) { id in
            guard let place = slot(of: id), !peers[place].isLearner else { return nil }
            return peers[place].recentActive
        } == .won
    }
}
