// The code of the article "Getting started", each part as it stands there.

import Ukehi

func oneNode(directory: String) async throws -> String? {
    let node = try await Node.start(directory: directory)
    try await node.put("user/7/name", "Ada")
    let name = try await node.get("user/7/name")?.value.text
    await node.stop()
    return name
}

func conditions(_ node: Node) async throws -> (swapped: UInt64?, visits: Int64) {
    let first = try await node.put("counter/config", "v1")
    let swapped = try await node.compareAndSet(
        "counter/config", expected: .version(first), to: "v2")
    let visits = try await node.increment("counter/visits", by: 5)
    return (swapped, visits)
}

func threeNodes(directory: String) throws -> Configuration {
    var configuration = Configuration()
    configuration.cluster.nodeID = "node-1"
    configuration.cluster.dataDirectory = directory
    configuration.cluster.listen = "10.0.0.1:7878"
    configuration.cluster.peers = ["10.0.0.2:7878", "10.0.0.3:7878"]
    configuration.raft.electionTimeoutMilliseconds = 500
    try configuration.validate()
    return configuration
}

func fromElsewhere() async throws {
    let client = try Client(endpoints: ["10.0.0.1:7878", "10.0.0.2:7878"])
    try await client.put("user/8/name", "Grace")
    await client.stop()
}
