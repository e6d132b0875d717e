// Snapshots as lines for people and objects for machines.

import UkehiBase
import UkehiState

// MARK: For people

/// What a snapshot is of.
func lines(of header: SnapshotHeader, _ state: RegionState?) -> [String] {
    var lines = [
        ink("region \(header.region.rawValue)", .bold) + (header.isSystem ? ", the system's" : "")
            + ", epoch \(header.epoch), of cluster \(header.cluster)",
        "index \(header.index), term \(header.term)"
            + (state.map { ", revision \($0.revision), logged time \($0.loggedTime)" } ?? ""),
        "range \(header.range)",
    ]
    lines += header.members.map {
        "peer \($0.peer.rawValue) on node \($0.node.rawValue): "
            + $0.roles.names.joined(separator: " and ")
    }
    if header.leavesJoint { lines.append("the joint configuration is left by itself") }
    return lines
}

/// `3.0 MiB in 1.0 MiB (0.33)`.
func sizeText(raw: UInt64, stored: UInt64) -> String {
    "\(byteText(raw)) in \(byteText(stored)) "
        + "(\(BenchFormat.ratio(Double(stored) / Double(max(raw, 1)))))"
}

extension SnapshotMember.Roles {
    fileprivate var names: [String] {
        let all: [(Self, String)] = [
            (.voter, "voter"), (.outgoingVoter, "outgoing voter"), (.learner, "learner"),
            (.nextLearner, "learner to be"),
        ]
        return all.filter { contains($0.0) }.map(\.1)
    }
}

// MARK: For machines

/// The fields that every object about a snapshot begins with.
func fields(of header: SnapshotHeader, _ state: RegionState?) -> [(String, JSONValue)] {
    [
        ("snapshot_id", .string(hex(header.snapshot))),
        ("cluster", .string("\(header.cluster)")), ("region", number(header.region.rawValue)),
        ("system", .bool(header.isSystem)),
        ("conf_version", number(header.epoch.confVersion)),
        ("version", number(header.epoch.version)), ("index", number(header.index.rawValue)),
        ("term", number(header.term.rawValue)),
        ("revision", state.map { number($0.revision) } ?? .null),
        ("logged_time", state.map { number($0.loggedTime) } ?? .null),
        ("lower_bytes", .int(header.range.lower.count)),
        ("upper_bytes", .int(header.range.upper.count)),
        (
            "members",
            .array(
                header.members.map {
                    .object([
                        ("peer", number($0.peer.rawValue)), ("node", number($0.node.rawValue)),
                        ("roles", .array($0.roles.names.map { .string($0) })),
                    ])
                })
        ), ("leaves_joint", .bool(header.leavesJoint)),
    ]
}

/// What is wrong, and where; null if nothing is.
func problemObject(_ problem: SnapshotError?) -> JSONValue {
    guard let problem else { return .null }
    return .object([
        ("code", .string("\(problem.code)")), ("message", .string(problem.message)),
        ("frame", problem.frame.map(number) ?? .null),
        ("offset", problem.offset.map(number) ?? .null),
    ])
}
