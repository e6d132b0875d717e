import UkehiBase
import UkehiRaft

@testable import UkehiNode

extension TestCluster {
    /// One line per replica: what a failing test prints.
    func dump() -> String {
        var lines: [String] = []
        for member in members {
            guard let core = member.core else {
                lines.append("\(member.name): down")
                continue
            }
            for lane in core.lanes {
                for region in lane.orderedRegions {
                    lines.append(
                        "\(member.name) \(region.id) \(region.peer) \(region.raft.role) term "
                            + "\(region.raft.term) leader \(region.raft.leader) log "
                            + "\(region.log.firstIndex)...\(region.log.lastIndex) last "
                            + "\(region.raft.lastIndex) committed \(region.raft.committed) applied "
                            + "\(region.applied) appends \(region.appendsInFlight)")
                }
            }
        }
        return lines.joined(separator: "\n")
    }
}
