// The program of README.md, word for word; run by DocumentationTests.swift.

import Ukehi

func greet(directory: String) async throws -> String {
    // A node of its own needs nothing but a directory.
    let node = try await Node.start(directory: directory)

    // Acknowledged means synced to disk; a cluster also means on a majority.
    try await node.put("greeting/en", "hello")
    try await node.put("greeting/fr", "bonjour")
    let english = try await node.get("greeting/en")

    // Keys are bytes in order; a range is half-open.
    for pair in try await node.scan("greeting/"..<"greeting0", limit: 10).pairs {
        print(pair.key.text ?? "?", pair.value.text ?? "?")
    }

    // Which regions does this node lead?
    print(node.isLeader, node.leads("greeting/en"))
    await node.stop()
    return english?.value.text ?? "nothing"
}
