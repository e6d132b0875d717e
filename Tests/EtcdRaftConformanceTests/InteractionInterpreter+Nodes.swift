// add-nodes: nodes with settings, which start from a snapshot or from nothing.

import UkehiBase

@testable import UkehiRaft

extension InteractionInterpreter {
    func addNodes(_ line: CommandLine) throws {
        try line.takes(words: 1...1, options: Self.nodeOptions)
        let count = try CommandLine.number(line.words[0])
        guard count <= 1000 else { throw TranscriptError("\(count) nodes") }
        var settings = RaftConfiguration(id: PeerID(1), electionTicks: 3, heartbeatTicks: 1)
        settings.maxInflightMessages = Int(Int32.max)
        var snapshot = Snapshot.empty
        for argument in line.arguments {
            // Of a scalar with several values the last one counts.
            for value in argument.values {
                try Self.set(argument.key, value, &settings, &snapshot)
            }
        }
        let isBootstrapped = snapshot != .empty
        if isBootstrapped {
            guard snapshot.index > LogIndex(1) else {
                throw ReportedError("index must be specified as > 1 due to bootstrap")
            }
            snapshot.term = Term(1)
        }
        for _ in 0..<count {
            settings.id = PeerID(UInt64(cluster.nodes.count) + 1)
            settings.seed = settings.id.rawValue
            let storage = HistoryStorage(snapshot)
            if isBootstrapped { try storage.apply(snapshot) }
            cluster.nodes.append(
                try InteractionNode(configuration: settings, storage: storage))
        }
    }

    private static let nodeOptions: Set<String> = [
        "voters", "learners", "index", "content", "inflight", "async-storage-writes", "prevote",
        "checkquorum", "max-committed-size-per-ready", "disable-conf-change-validation",
        "read-only", "step-down-on-removal", "heartbeat-tick", "election-tick",
        // Not the reference's, for files of our own.
        "max-inflight-bytes", "max-size-per-msg", "max-uncommitted-size",
        "disable-proposal-forwarding",
    ]

    private static func set(
        _ key: String, _ value: String, _ settings: inout RaftConfiguration,
        _ snapshot: inout Snapshot
    ) throws {
        func number() throws(TranscriptError) -> UInt64 { try CommandLine.number(value) }
        func ticks() throws(TranscriptError) -> Int {
            let number = try number()
            guard number <= Int32.max else { throw TranscriptError("no count: \(value)") }
            return Int(number)
        }
        func truth() throws(TranscriptError) -> Bool { try CommandLine.isTrue(value) }
        switch key {
        case "voters": snapshot.configuration.voters.append(PeerID(try number()))
        case "learners": snapshot.configuration.learners.append(PeerID(try number()))
        case "index":
            snapshot.index = LogIndex(try number())
            settings.applied = snapshot.index
        case "content": snapshot.data = Bytes(value)
        case "inflight": settings.maxInflightMessages = try ticks()
        case "async-storage-writes": settings.asyncStorageWrites = try truth()
        case "prevote": settings.preVote = try truth()
        case "checkquorum": settings.checkQuorum = try truth()
        case "max-committed-size-per-ready":
            // Zero stands for the size of a message.
            let bytes = try number()
            settings.maxCommittedBytesPerReady = bytes == 0 ? nil : bytes
        case "disable-conf-change-validation":
            settings.disableConfChangeValidation = try truth()
        case "read-only":
            switch value {
            case "safe": settings.readMode = .quorum
            case "lease-based": settings.readMode = .lease
            default:
                throw ReportedError(
                    "invalid read-only option \(Describe.quoted(Bytes(value)))")
            }
        case "step-down-on-removal": settings.stepDownOnRemoval = try truth()
        case "heartbeat-tick": settings.heartbeatTicks = try ticks()
        case "election-tick": settings.electionTicks = try ticks()
        case "max-inflight-bytes": settings.maxInflightBytes = try number()
        case "max-size-per-msg": settings.maxMessageBytes = try number()
        case "max-uncommitted-size": settings.maxUncommittedBytes = try number()
        case "disable-proposal-forwarding": settings.disableProposalForwarding = try truth()
        default: throw TranscriptError("add-nodes has no option \(key)")
        }
    }
}
